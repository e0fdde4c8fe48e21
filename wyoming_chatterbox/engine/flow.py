"""Speech tokens → mel frames while the tokens arrive.

The exact way: for every piece the flow decoder sees the voice's prompt and all tokens so far, with full attention and
all ten steps, as upstream's one-shot `generate()` does. A frame is decoded once and stays as it is. What differs from
upstream's stream:

- the noise belongs to the frame, not to the window, so a frame keeps its noise whatever is decoded around it;
- the last three tokens wait until the next ones, which the encoder looks ahead to, are there (or will not come).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

from . import upstream
from .base import Cancel

FRAMES_PER_TOKEN = 2
MEL_BANDS = 80

_NOISE_BLOCK = 64
"""Frames whose noise is drawn at once."""


@dataclass
class FlowState:
    """One utterance's place in the flow decoder."""

    conditionals: dict[str, Any]
    """The voice: upstream's `Conditionals.gen` (prompt_token, prompt_feat, embedding, …)."""

    generator: Any
    """Draws this utterance's noise, on the CPU so that every device gets the same."""

    noise: Any = None
    """Noise per absolute frame, the prompt's included, shape (1, 80, n)."""

    tokens: list[int] = field(default_factory=list)
    frames: int = 0
    """Frames decoded so far, without the prompt's."""


class StreamingFlow:
    """Upstream's CausalMaskedDiffWithXvec, fed with tokens. It holds no state; an utterance's is in FlowState."""

    def __init__(self, flow: Any) -> None:
        self._torch = upstream.load_torch()
        self._flow = flow
        self.lookahead: int = flow.pre_lookahead_len
        """Tokens that must follow before a token is decoded."""

    def start(self, conditionals: dict[str, Any], seed: int) -> FlowState:
        """A new utterance in a voice."""
        return FlowState(conditionals, self._torch.Generator().manual_seed(seed))

    def push(self, state: FlowState, tokens: list[int], *, final: bool, cancel: Cancel, steps: int = 10) -> Any:
        """Add tokens.

        Args:
            state: the utterance, changed.
            tokens: new speech tokens, 0 to 6560; may be none.
            final: there will be no more.
            cancel: looked at before every step.
            steps: Euler steps; 10 is upstream's.

        Returns:
            The frames that can be decoded now, shape (1, 80, n); n may be 0.

        Raises:
            Cancelled: `cancel` was set.
        """
        torch = self._torch
        state.tokens += tokens
        prompt, feat = state.conditionals["prompt_token"], state.conditionals["prompt_feat"]
        ready = prompt.shape[1] + len(state.tokens) - (0 if final else self.lookahead)
        # The clip's own frames may be one more than its tokens' are: then upstream has one less for the speech, too.
        if ready * FRAMES_PER_TOKEN - feat.shape[1] <= state.frames:
            return torch.zeros(1, MEL_BANDS, 0, device=prompt.device)
        mel = self._decode(state, final, steps, cancel)[:, :, state.frames :]
        state.frames += mel.shape[2]
        return mel

    def _decode(self, state: FlowState, final: bool, steps: int, cancel: Cancel) -> Any:
        """All frames of the tokens so far, shape (1, 80, n); upstream's `inference` with noise from outside."""
        torch, flow, voice = self._torch, self._flow, state.conditionals
        prompt, feat = voice["prompt_token"], voice["prompt_feat"]
        device = prompt.device
        new = torch.tensor([state.tokens], dtype=torch.long, device=device)
        tokens = torch.cat((prompt.long(), new), dim=1)
        speaker = flow.spk_embed_affine_layer(torch.nn.functional.normalize(voice["embedding"], dim=1))
        hidden, _ = flow.encoder(flow.input_embedding(tokens), torch.tensor([tokens.shape[1]], device=device))
        if not final:
            hidden = hidden[:, : -self.lookahead * FRAMES_PER_TOKEN]
        mu = flow.encoder_proj(hidden).transpose(1, 2).contiguous()  # (1, 80, frames with the prompt's)
        prompt_frames = feat.shape[1]
        condition = torch.zeros_like(mu)
        condition[:, :, :prompt_frames] = feat.transpose(1, 2)
        noise = self._noise(state, mu.shape[2]).to(device, mu.dtype)
        return self._solve(noise, mu, speaker, condition, steps, cancel)[:, :, prompt_frames:]

    def _noise(self, state: FlowState, frames: int) -> Any:
        """The noise of the first frames; drawn block by block, so that it does not depend on how many are asked for."""
        torch = self._torch
        while state.noise is None or state.noise.shape[2] < frames:
            block = torch.randn(1, _NOISE_BLOCK, MEL_BANDS, generator=state.generator).transpose(1, 2)
            state.noise = block if state.noise is None else torch.cat((state.noise, block), dim=2)
        return state.noise[:, :, :frames]

    def _solve(self, noise: Any, mu: Any, speaker: Any, condition: Any, steps: int, cancel: Cancel) -> Any:
        """Euler's method with classifier-free guidance, as upstream's `solve_euler`, shapes (1, 80, frames)."""
        torch, decoder = self._torch, self._flow.decoder
        times = torch.linspace(0, 1, steps + 1, device=mu.device, dtype=mu.dtype)
        if decoder.t_scheduler == "cosine":
            times = 1 - torch.cos(times * 0.5 * torch.pi)
        # The second row is the unconditional one.
        mask = torch.ones(2, 1, mu.shape[2], device=mu.device, dtype=mu.dtype)
        mu = torch.cat((mu, torch.zeros_like(mu)))
        speaker = torch.cat((speaker, torch.zeros_like(speaker)))
        condition = torch.cat((condition, torch.zeros_like(condition)))
        rate = decoder.inference_cfg_rate
        x = noise
        for now, then in itertools.pairwise(times):
            cancel.raise_if_set()
            both = decoder.estimator(x.expand(2, -1, -1), mask, mu, now.expand(2), speaker, condition)
            x = x + (then - now) * ((1 + rate) * both[:1] - rate * both[1:])
        return x.float()
