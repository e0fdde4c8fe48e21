"""What a model computes of a voice's clips: once, then from memory or from the disk.

Conditionals are values: nothing here changes those that were given out, and a stream keeps the ones it began with.
"""

from __future__ import annotations

import copy
import io
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...voices.clips import RATE, load_reference
from ...voices.errors import VoiceError
from ...voices.voice import Voice
from ..base import EngineError
from ..cuda_errors import raise_if_sticky
from ..memory import trim_heap
from . import upstream
from .compute.pages import release_pages
from .compute.placement import CLIP_MODULES, borrowed
from .conditionals_store import Arrays, ConditionalsCache
from .upstream_stream import describe_error

_LOGGER = logging.getLogger(__name__)

MOST_KEPT = 64
"""Voices in memory, 0.3 MB each; the others are on the disk."""

_NONE_IN_GEN = "prompt_feat_len"
"""Always None in upstream's dictionary, which has it all the same."""


@dataclass(frozen=True, eq=False)
class Kept:
    """Equal only to itself: what was computed from another clip, or at another time, is another voice."""

    conditionals: Any
    """Upstream's Conditionals, at some exaggeration; not to be changed."""

    fingerprint: str
    """Of the content that they were computed from."""


class VoiceConditionals:
    """The conditionals of cloned voices. Its methods block and are called from one thread only."""

    def __init__(
        self,
        model: Any,
        cache: ConditionalsCache | None,
        revision: str,
        on_forget: Callable[[Kept], None],
        loudness: float | None = None,
        min_clip_seconds: float = 0.0,
    ) -> None:
        """
        Args:
            model: upstream's ChatterboxTTS, which is not changed.
            cache: where they are kept; None: nowhere but in memory.
            revision: of the model's weights.
            on_forget: told what is not kept in memory any more.
            loudness: LUFS that clips are brought to; None: they are taken as they are.
            min_clip_seconds: the least that a voice can be taken from.
        """
        self._model = model
        self._cache = cache
        self._revision = revision
        self._on_forget = on_forget
        self._loudness = loudness
        self._min_clip_seconds = min_clip_seconds
        self._kept: OrderedDict[str, Kept] = OrderedDict()  # by the voice's fingerprint

    def of(self, voice: Voice) -> Kept:
        """Those of a voice with clips.

        Raises:
            EngineError: the clips cannot be used.
        """
        kept = self._kept.get(voice.fingerprint) or self._taken(voice)[0]
        self._kept[voice.fingerprint] = kept
        self._kept.move_to_end(voice.fingerprint)
        while len(self._kept) > MOST_KEPT:
            self.forget(next(iter(self._kept)))
        return kept

    def prepare(self, voice: Voice) -> bool:
        """See that `of` has nothing to compute; True if it would have had. Voices that are spoken stay in memory rather
        than this one. Raises as `of` does."""
        if voice.fingerprint in self._kept:
            return False
        kept, computed = self._taken(voice)
        if len(self._kept) < MOST_KEPT:
            self._kept[voice.fingerprint] = kept
        return computed

    def _taken(self, voice: Voice) -> tuple[Kept, bool]:
        """(what is not in memory, whether it had to be computed)."""
        conditionals = self._from_disk(voice.fingerprint)
        if conditionals is not None:
            return Kept(conditionals, voice.fingerprint), False
        return self._computed(voice), True

    def forget(self, fingerprint: str) -> None:
        """Drop from memory what belongs to a voice that is gone; what is on the disk stays for when it comes back."""
        kept = self._kept.pop(fingerprint, None)
        if kept is not None:
            self._on_forget(kept)

    def _computed(self, voice: Voice) -> Kept:
        import soundfile

        started = time.perf_counter()
        clip = io.BytesIO()
        clip_modules = [getattr(self._model.s3gen, name) for name in CLIP_MODULES]
        try:
            samples, fingerprint = load_reference(voice.clips, voice.folder)
            if len(samples) <= self._min_clip_seconds * RATE:
                raise VoiceError(
                    f"with {len(samples) / RATE:.1f} s of speech: this model needs more than "
                    f"{self._min_clip_seconds:g} s; give a longer clip, or several"
                )
            if self._loudness is not None:
                samples = at_loudness(samples, RATE, self._loudness)
            # As a file of floats at its own rate upstream takes it as it is.
            soundfile.write(clip, samples, RATE, format="WAV", subtype="FLOAT")
            clip.seek(0)
            view = copy.copy(self._model)  # upstream stores the result in `conds` of the object it is called on
            with torch.no_grad(), borrowed(clip_modules, self._model.t3.device):
                view.prepare_conditionals(clip)
        except VoiceError as error:
            raise EngineError(f"voice {voice.name!r} cannot be taken from its clip {error}") from error
        except Exception as error:
            raise_if_sticky(error)
            raise EngineError(
                f"voice {voice.name!r} cannot be taken from {', '.join(path.name for path in voice.clips)} "
                f"({describe_error(error)}); give 5 to 15 s of clear speech as WAV"
            ) from error
        finally:
            # A voice is computed once: what only clips need would stay in memory, 0.6 GB.
            for module in (self._model.ve, *clip_modules):
                release_pages((*module.parameters(), *module.buffers()))
            trim_heap()
        _LOGGER.info("Took the voice %s from its clip in %.1f s", voice.name, time.perf_counter() - started)
        if self._cache is not None:
            # Under what was read: the file may be another one than the voice was made of.
            self._cache.put(_arrays(view.conds), fingerprint, *self._depends_on())
        return Kept(view.conds, fingerprint)

    def _from_disk(self, fingerprint: str) -> Any:
        arrays = None if self._cache is None else self._cache.get(fingerprint, *self._depends_on())
        return None if arrays is None else _conditionals(arrays, self._model.device)

    def _depends_on(self) -> tuple[str, ...]:
        """Returns what the conditionals of a clip depend on besides it. The exaggeration is put into them for each
        call."""
        loudness = () if self._loudness is None else (f"{self._loudness:g} LUFS",)
        return self._revision, str(self._model.device).partition(":")[0], *loudness


def at_loudness(samples: NDArray[np.float32], rate: int, lufs: float) -> NDArray[np.float32]:
    """Returns samples, shape (n,) and at least 0.4 s of them, at a loudness as ITU-R BS.1770 measures it."""
    from pyloudnorm import Meter

    gain = 10 ** ((lufs - Meter(rate).integrated_loudness(samples)) / 20)
    return (samples * gain).astype(np.float32) if math.isfinite(gain) and gain > 0 else samples


def _arrays(conditionals: Any) -> Arrays:
    parts = {"t3": vars(conditionals.t3), "gen": conditionals.gen}
    return {
        f"{part}.{name}": value.detach().cpu().numpy()
        for part, values in parts.items()
        for name, value in values.items()
        if torch.is_tensor(value)
    }


def _conditionals(arrays: Arrays, device: torch.device) -> Any:
    """Upstream's Conditionals, or None where the arrays are not those of conditionals."""
    tts = upstream.load_chatterbox()
    parts: dict[str, dict[str, Any]] = {"t3": {}, "gen": {_NONE_IN_GEN: None}}
    for key, array in arrays.items():
        part, _, name = key.partition(".")
        parts.setdefault(part, {})[name] = torch.from_numpy(array)
    try:
        return tts.Conditionals(tts.T3Cond(**parts["t3"]), parts["gen"]).to(device)
    except TypeError:
        return None
