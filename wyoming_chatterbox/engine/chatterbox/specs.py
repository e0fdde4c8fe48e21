"""What the models of the Chatterbox family have in common and where they differ: sizes, sampling, decoding.

Figures are those of the published checkpoints and of the code that loads them (resemble-ai/chatterbox, `tts.py`,
`tts_turbo.py`, `mtl_tts.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ...limits import MIN_TURBO_CLIP_SECONDS
from ..built_in_voices import MULTILINGUAL_LANGUAGES
from ..tags import TURBO_SOUNDS, TURBO_STYLES
from .compute.plan import PlanOptions
from .compute.timed_parts import FLOW_CHUNK, MEAN_FLOW_CHUNK, TOKEN_STEP, Layers
from .s3gen.spec import S3GenSpec
from .t3.sampling import CURRENT, Sampling
from .t3.spec import GPT2_SIZES, T3Spec


@dataclass(frozen=True)
class ChatterboxSpec:
    """One model of the family."""

    title: str
    """As people call it."""

    t3: T3Spec = field(default_factory=T3Spec)
    s3gen: S3GenSpec = field(default_factory=S3GenSpec)
    sampling: Sampling = CURRENT
    """What it is sampled with where nobody says otherwise."""

    clip_seconds: int = 6
    """Of a reference clip, what the language model reads."""

    min_clip_seconds: float = 0.0
    """Speech that a clip must have more than."""

    loudness: float | None = None
    """LUFS that a reference clip is brought to; None: it is taken as it is."""

    punctuation: tuple[tuple[str, str], ...] | None = None
    """What is written → what its texts have instead, one after the other; None: as chatterbox-streaming does it."""

    sentence_ends: tuple[str, ...] = (".", "!", "?", "-", ",")
    """A text that ends otherwise gets a full stop."""

    tags: tuple[str, ...] = ()
    """Words in brackets that it has tokens for."""

    languages: tuple[str, ...] = ("en",)
    """Codes of the languages that it speaks; with several, its tokenizer is told which one."""

    upstream_decoder: bool = False
    """chatterbox-streaming has a decoder for it."""

    @property
    def multilingual(self) -> bool:
        """Whether its tokenizer is told the language of a text."""
        return len(self.languages) > 1


SILENCE_TOKEN = 4299
"""The speech token of silence."""

ORIGINAL = ChatterboxSpec("Chatterbox", upstream_decoder=True)
"""The first, English model."""

_TURBO_PUNCTUATION = (
    ("…", ", "),
    (":", ","),
    ("—", "-"),
    ("–", "-"),
    (" ,", ","),
    ("“", '"'),
    ("”", '"'),
    ("‘", "'"),
    ("’", "'"),
)
_TURBO_SAMPLING = Sampling(repetition_penalty=1.2, min_p=0.0, top_p=0.95, top_k=1000)


def _turbo(title: str, sizes: str) -> ChatterboxSpec:
    return ChatterboxSpec(
        title,
        T3Spec(
            llama_config_name=sizes,
            text_tokens_dict_size=50276,
            speech_tokens_dict_size=6563,
            input_pos_emb=None,
            speech_cond_prompt_len=375,
            use_perceiver_resampler=False,
            emotion_adv=False,
            guided=False,
            text_marks=False,
            start_tokens=1,
            penalty_last=True,
        ),
        S3GenSpec(mean_flow=True, closing_tokens=(SILENCE_TOKEN,) * 3),
        sampling=_TURBO_SAMPLING,
        clip_seconds=15,
        min_clip_seconds=MIN_TURBO_CLIP_SECONDS,
        loudness=-27.0,
        punctuation=_TURBO_PUNCTUATION,
        tags=TURBO_SOUNDS + TURBO_STYLES,
    )


TURBO = _turbo("Chatterbox Turbo", "GPT2_medium")
"""English, with sounds such as [laugh]; made for GPUs."""

NANO = _turbo("Chatterbox Nano", "GPT2_small")
"""Turbo with a smaller language model, for CPUs."""


_MULTILINGUAL_PUNCTUATION = (
    ("...", ", "),
    ("…", ", "),
    (":", ","),
    (" - ", ", "),
    (";", ", "),
    *_TURBO_PUNCTUATION[2:],
)


def _multilingual(title: str) -> ChatterboxSpec:
    return ChatterboxSpec(
        title,
        T3Spec(text_tokens_dict_size=2454),
        S3GenSpec(drops_last_token=True),
        punctuation=_MULTILINGUAL_PUNCTUATION,
        languages=MULTILINGUAL_LANGUAGES,
        sentence_ends=(".", "!", "?", "-", ",", "、", "，", "。", "？", "！"),
    )


MULTILINGUAL_V2 = _multilingual("Chatterbox Multilingual v2")
MULTILINGUAL_V3 = _multilingual("Chatterbox Multilingual v3")
"""23 languages."""

SPECS = {
    "original": ORIGINAL,
    "turbo": TURBO,
    "nano": NANO,
    "multilingual": MULTILINGUAL_V3,
    "multilingual-v2": MULTILINGUAL_V2,
}
"""By the names of the registry."""


def plan_options(spec: ChatterboxSpec) -> PlanOptions:
    """Returns what of a model decides how it is computed."""
    return PlanOptions(
        token_step=_token_step(spec.t3),
        flow_chunk=MEAN_FLOW_CHUNK if spec.s3gen.mean_flow else FLOW_CHUNK,
        mean_flow=spec.s3gen.mean_flow,
        cpu_profile="fast" if spec is NANO else "exact",
        # Of 16 to 32 tokens and growths of 1 to 2 the one without gaps in 2, 5 and 10 s of speech.
        gapless_chunk=28 if spec is NANO else None,
    )


def _token_step(t3: T3Spec) -> Layers:
    if not t3.is_gpt2:
        return TOKEN_STEP
    sizes = GPT2_SIZES[t3.llama_config_name]
    width = sizes["n_embd"]
    products = ((width, 3 * width), (width, width), (width, 4 * width), (4 * width, width))
    # 700 positions are the voice, which alone has 376, a sentence and 10 s of its speech.
    return Layers(f"a layer of {t3.llama_config_name}", 1, products, heads=sizes["n_head"], keys=700, guided=False)
