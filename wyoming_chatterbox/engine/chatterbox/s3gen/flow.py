"""Speech tokens → mel frames while the tokens arrive.

The exact way (attention "full"): for every piece the flow decoder sees the voice's prompt and all tokens so far, with
full attention, as upstream's one-shot `generate()` does. What differs from upstream's stream:

- the noise belongs to the frame, not to the window, so a frame keeps its noise whatever is decoded around it;
- the last three tokens wait until the next ones, which the encoder looks ahead to, are there (or will not come);
- since every piece decodes all of it, frames that nobody has heard yet can be had again, now that more of the speech is
  known.

The fast way (attention "causal"): a piece attends to itself and to what was there before it, whose keys and values are
kept; the voice's prompt is computed once for all its utterances. A frame then never hears of what came after its piece,
at no layer and no step, and of the speech before that only so much that with the piece it is `WINDOW_FRAMES`.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ...base import CancelToken
from ..compute.graph_check import Trial
from ..compute.transfer import to_device
from .encoder import EncoderState, FlowEncoder
from .estimator import Estimator, EstimatorState, guided
from .graphs import FlowGraphs

FRAMES_PER_TOKEN = 2
TOKENS_PER_SECOND = 25
MEL_BANDS = 80
STEPS = 10
"""Upstream's for the original model."""

WINDOW_FRAMES = 256
"""Frames of speech (5 s), its own piece's among them, that a frame attends to with attention "causal"; they bound the
memory."""

CACHED_VOICES = 2
"""Voices whose prompt's keys and values are kept with attention "causal": 3.5 GB each for a prompt of 10 s with ten
steps in float32, 0.75 GB for 3 s with four."""

_NOISE_BLOCK = 64
"""Frames whose noise is drawn at once."""

_PROMPT_SEED = 0
"""Of the noise of the prompt's frames: it is the same for all utterances, and nothing of it is heard."""


@dataclass
class _Prompt:
    """A voice's prompt, decoded with attention "causal"."""

    tokens: EncoderState
    """What the encoder keeps of it; never changed."""

    frames: EstimatorState
    """What the estimator keeps of it: the first utterance that asks for it gets it, since most of it is room for the
    utterance. What is the prompt's in it is never changed, so others at the same time get copies of that."""

    end: list[list[Tensor]]
    """What of it later frames overwrite."""

    in_use: bool = False
    """Whether an utterance has `frames`."""


@dataclass
class _Past:
    """What an utterance with attention "causal" keeps of its frames, the prompt's included."""

    prompt: _Prompt
    tokens: EncoderState
    frames: EstimatorState


@dataclass
class FlowState:
    """One utterance's place in the flow decoder."""

    prompt_tokens: Tensor
    """The voice's, shape (1, n)."""

    prompt_feat: Tensor
    """The voice's mel frames, shape (1, m, 80); m is 2 n or one more."""

    speaker: Tensor
    """Shape (1, 80)."""

    generator: torch.Generator
    """Draws this utterance's noise, on the CPU so that every device gets the same."""

    voice_key: Any
    noise: Tensor | None = None
    """Noise per absolute frame, the prompt's included, shape (1, n, 80), on the device."""

    tokens: list[int] = field(default_factory=list)
    frames: int = 0
    """Frames decoded so far, without the prompt's."""

    past: _Past | None = None


class StreamingFlow:
    """Upstream's CausalMaskedDiffWithXvec, fed with tokens. An utterance's state is in FlowState."""

    def __init__(
        self,
        flow: Any,
        *,
        attention: str = "full",
        steps: int = STEPS,
        prompt_seconds: float = 10.0,
        precision: str = "float32",
        graphs: bool = False,
    ) -> None:
        """
        Args:
            flow: chatterbox.models.s3gen.flow.CausalMaskedDiffWithXvec.
            attention: "full" or "causal", see above.
            steps: Euler steps; 10 is upstream's.
            prompt_seconds: of the voice's prompt, its end is used; 10 is all that upstream takes of a clip.
            precision: of the linear layers, see linear.py.
            graphs: whether `capture` makes CUDA graphs of the steps; with attention "full" only.
        """
        self._flow = flow
        self._causal = attention == "causal"
        self._prompt_tokens = max(1, round(prompt_seconds * TOKENS_PER_SECOND))
        self._encoder = FlowEncoder(flow, precision)
        mean_flow = getattr(flow.decoder.estimator, "time_embed_mixer", None) is not None
        times = torch.linspace(0, 1, steps + 1)
        if flow.decoder.t_scheduler == "cosine" and not mean_flow:
            times = 1 - torch.cos(times * 0.5 * torch.pi)
        self._times = times.tolist()
        device = flow.encoder_proj.weight.device
        begins, ends = times[:-1].to(device), times[1:].to(device)
        self._estimator = Estimator(flow.decoder.estimator, begins, precision, ends=ends if mean_flow else None)
        self._rows = self._estimator.rows
        self._graphs: FlowGraphs | None = None
        if graphs and not self._causal:
            self._graphs = FlowGraphs(self._estimator, self._times, flow.decoder.inference_cfg_rate)
        self._prompts: OrderedDict[Any, _Prompt] = OrderedDict()
        self.lookahead: int = flow.pre_lookahead_len
        """Tokens that must follow before a token is decoded."""

        # Pieces are attended to in the same places as earlier speech: half of these stay for it.
        self.max_push_tokens = WINDOW_FRAMES // FRAMES_PER_TOKEN // 2 - self.lookahead - 1 if self._causal else None
        """Most tokens that `push` takes at once; None: any number."""

    def capture(self) -> None:
        """Capture the CUDA graphs that were asked for."""
        if self._graphs is not None:
            self._graphs.capture()

    def trial(self) -> Trial | None:
        """Returns a captured step for comparisons; None where there is none."""
        return self._graphs.trial() if self._graphs is not None else None

    def trials(self) -> Iterator[Trial]:
        """Returns every captured step, for comparisons."""
        return iter(()) if self._graphs is None else self._graphs.trials()

    def drop_graphs(self, error: Exception) -> None:
        """Go on without graphs, and say why in the log."""
        if self._graphs is not None:
            self._graphs.drop(error)

    def start(self, conditionals: dict[str, Any], seed: int, voice_key: Any = None) -> FlowState:
        """Begin an utterance in a voice; returns its state.

        Args:
            conditionals: upstream's `Conditionals.gen` (prompt_token, prompt_feat, embedding, …).
            seed: of the noise.
            voice_key: what the conditionals are; what is computed of them is kept for others with an equal key. None:
                nothing is kept.
        """
        tokens, feat = conditionals["prompt_token"].long(), conditionals["prompt_feat"]
        # A clip's frames may be one more than its tokens' are.
        more = feat.shape[1] - FRAMES_PER_TOKEN * tokens.shape[1]
        tokens = tokens[:, -self._prompt_tokens :]
        feat = feat[:, -(FRAMES_PER_TOKEN * tokens.shape[1] + more) :]
        embedding = torch.nn.functional.normalize(conditionals["embedding"], dim=1)
        speaker = self._flow.spk_embed_affine_layer(embedding)
        return FlowState(tokens, feat, speaker, torch.Generator().manual_seed(seed), voice_key)

    def push(
        self, state: FlowState, tokens: list[int], *, final: bool, cancel: CancelToken, redo_frames: int = 0
    ) -> Tensor:
        """Add tokens.

        Args:
            state: the utterance, changed.
            tokens: new speech tokens, 0 to 6560; may be none, and no more than `max_push_tokens`.
            final: there will be no more.
            cancel: looked at before every step.
            redo_frames: how many of the last frames that were returned are wanted once more, as they are now that more
                tokens are known. With attention "causal" they would be the same, and are not returned.

        Returns:
            The frames that can be decoded now, shape (1, 80, n), those that are returned again in front of the new
            ones, which `state.frames` counts. n may be 0.

        Raises:
            Cancelled: `cancel` was set.
        """
        state.tokens += tokens
        prompt_frames = state.prompt_feat.shape[1]
        ready = state.prompt_tokens.shape[1] + len(state.tokens) - (0 if final else self.lookahead)
        # Where the clip has a frame more than its tokens', upstream has one less for the speech.
        if ready * FRAMES_PER_TOKEN - prompt_frames <= state.frames:
            return torch.zeros(1, MEL_BANDS, 0, device=state.prompt_feat.device)
        mel = self._decode_next(state, final, cancel) if self._causal else self._decode_all(state, final, cancel)
        redo_frames = 0 if self._causal else min(redo_frames, state.frames)
        new = ready * FRAMES_PER_TOKEN - prompt_frames - state.frames
        state.frames += new
        return mel[:, -(redo_frames + new) :].transpose(1, 2)

    def finish(self, state: FlowState) -> None:
        """The utterance is over; the next one in its voice may use its memory."""
        past, state.past = state.past, None
        if past is not None and past.frames is past.prompt.frames:
            past.prompt.in_use = False

    def forget(self, voice_key: Any) -> None:
        """Drop what is kept of a voice."""
        self._prompts.pop(voice_key, None)

    def _decode_all(self, state: FlowState, final: bool, cancel: CancelToken) -> Tensor:
        """Returns all frames of the tokens so far, the prompt's included, shape (1, n, 80)."""
        new = to_device(torch.tensor([state.tokens], dtype=torch.long), state.prompt_tokens.device)
        tokens = torch.cat((state.prompt_tokens, new), dim=1)
        # As upstream's `finalize=False`: the last tokens are attended to, though their own frames are left out.
        mu = self._encoder(tokens, EncoderState(), final=True)
        if not final:
            mu = mu[:, : -self.lookahead * FRAMES_PER_TOKEN]
        return self._solve(state, mu, 0, None, cancel)

    def _decode_next(self, state: FlowState, final: bool, cancel: CancelToken) -> Tensor:
        """Returns the frames behind those that were decoded before, shape (1, n, 80)."""
        if state.past is None:
            state.past = self._start_after_prompt(self._prompt(state, cancel))
        past = state.past
        encoded = past.tokens.tokens + (0 if past.tokens.inputs is None else past.tokens.inputs.shape[1])
        fresh = state.tokens[encoded - state.prompt_tokens.shape[1] :]
        new = to_device(torch.tensor([fresh], dtype=torch.long), state.prompt_tokens.device)
        mu = self._encoder(new, past.tokens, final=final)
        return self._solve(state, mu, past.frames.frames, past.frames, cancel)

    def _prompt(self, state: FlowState, cancel: CancelToken) -> _Prompt:
        """Returns the voice's prompt: of an earlier utterance, or decoded now."""
        known = self._prompts.get(state.voice_key)
        if known is not None:
            self._prompts.move_to_end(state.voice_key)
            return known
        while len(self._prompts) >= CACHED_VOICES:  # not beside the new one
            self._prompts.popitem(last=False)
        tokens = EncoderState()
        mu = self._encoder(state.prompt_tokens, tokens, final=False)
        frames = EstimatorState(self._estimator, mu.shape[1], WINDOW_FRAMES)
        if mu.shape[1]:
            self._solve(state, mu, 0, frames, cancel)
        prompt = _Prompt(tokens, frames, frames.snapshot())
        if state.voice_key is not None:
            self._prompts[state.voice_key] = prompt
        return prompt

    def _start_after_prompt(self, prompt: _Prompt) -> _Past:
        """Returns the state of an utterance that begins behind a prompt."""
        frames = prompt.frames
        if prompt.in_use:
            frames = EstimatorState(self._estimator, frames.prompt, WINDOW_FRAMES)
            frames.copy_prompt(prompt.frames)
        prompt.in_use = True
        frames.rewind(prompt.end)
        return _Past(prompt, prompt.tokens.copy(), frames)

    def _solve(
        self, state: FlowState, mu: Tensor, first: int, memory: EstimatorState | None, cancel: CancelToken
    ) -> Tensor:
        """Euler's method with classifier-free guidance, as upstream's `solve_euler`; without it, as its `basic_euler`,
        where the network learnt what guidance does.

        Args:
            mu: of consecutive frames, shape (1, n, 80).
            first: index of the first of them, the prompt's included.
            memory: of the frames before them, see Estimator; changed.
        """
        count = mu.shape[1]
        condition = torch.zeros_like(mu)
        known = state.prompt_feat[:, first : first + count]
        condition[:, : known.shape[1]] = known
        conditioning = torch.cat((mu, state.speaker[:, None].expand(-1, count, -1), condition), dim=2)
        if self._rows == 2:
            conditioning = torch.cat((conditioning, torch.zeros_like(conditioning)))  # the second is unconditional
        rate = self._flow.decoder.inference_cfg_rate
        x = self._noise(state, first + count)[:, first:]
        solved = self._graphs.solve(x, conditioning, cancel) if self._graphs is not None else None
        if solved is not None:
            return solved
        for step, (now, then) in enumerate(itertools.pairwise(self._times)):
            cancel.raise_if_set()
            directions = self._estimator(torch.cat((x.expand(self._rows, -1, -1), conditioning), dim=2), step, memory)
            x = x + (then - now) * guided(directions, rate)
        if memory is not None:
            memory.frames += count
        return x

    def _noise(self, state: FlowState, frames: int) -> Tensor:
        """Returns the noise of the first frames, shape (1, n, 80); drawn block by block, so that it does not depend on
        how many are asked for."""
        device = state.prompt_feat.device
        if state.noise is None:
            random = torch.Generator().manual_seed(_PROMPT_SEED)
            noise = torch.randn(1, state.prompt_feat.shape[1], MEL_BANDS, generator=random)
            state.noise = to_device(noise, device)
        while state.noise.shape[1] < frames:
            block = torch.randn(1, _NOISE_BLOCK, MEL_BANDS, generator=state.generator)
            state.noise = torch.cat((state.noise, to_device(block, device)), dim=1)
        return state.noise[:, :frames]


def split_tokens(tokens: list[int], max_push_tokens: int | None) -> Iterator[list[int]]:
    """Tokens in pieces of about the same length that `push` takes; one empty piece when there are none."""
    pieces = max(1, -(-len(tokens) // max_push_tokens)) if max_push_tokens else 1
    size = max(1, -(-len(tokens) // pieces))
    for begin in range(0, max(1, len(tokens)), size):
        yield tokens[begin : begin + size]
