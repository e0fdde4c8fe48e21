"""From a directory of weights to upstream's model object, trusting nothing that the files hold."""

from __future__ import annotations

import functools
import logging
import time
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ..base import EngineError
from ..weights.files import ModelFiles
from . import upstream
from .compute.pages import release_pages
from .compute.placement import move_to_device, network_layers
from .compute.plan import Plan
from .specs import ORIGINAL, ChatterboxSpec
from .t3.gpt2_module import GPT2T3
from .tokenizers import GPT2TextTokenizer, MultilingualTokenizer
from .upstream_stream import describe_error

_LOGGER = logging.getLogger(__name__)

_DERIVED_BUFFERS = frozenset({"tokenizer._mel_filters", "tokenizer.window"})
"""S3Gen computes these when it is made; upstream's s3gen.safetensors leaves them out, its s3gen.pt does not."""

_KEYS_SHOWN = 3

_CLIP_RATE = 16_000
"""Samples per second of what T3 reads of a clip."""


def load_model(
    files: ModelFiles, device: str, seed: int, plan: Plan | None = None, spec: ChatterboxSpec = ORIGINAL
) -> Any:
    """Build upstream's ChatterboxTTS, its weights loaded; `conds` is the built-in voice's, or None. Of another model
    than the original one its T3, its S3Gen and its tokenizer are those of the model, and `generate()` is not for it.

    Args:
        files: where the weights are.
        device: a torch device.
        seed: the flow decoder's noise is drawn from it, so that every process that loads these files has the
            same. At least 0.
        plan: how it will be computed, which decides what a GPU gets; None: everything as it was published.
        spec: which model it is.

    Raises:
        EngineUnavailable: upstream's packages are missing.
        EngineError: a file is damaged, or holds another model's weights; the message names it.
    """
    tts = upstream.load_chatterbox()
    started = time.perf_counter()
    # What libraries print must not reach standard output. Fresh modules draw random weights: nobody else's
    # random numbers should change for it.
    with upstream.suppress_output(), torch.random.fork_rng(devices=[]):
        voice_encoder = _load_module(tts.VoiceEncoder, files.voice_encoder, spec)
        t3 = _load_module(functools.partial(make_t3, spec), files.t3, spec)
        s3gen = _load_module(functools.partial(make_s3gen, spec), files.s3gen, spec, may_lack=_DERIVED_BUFFERS)
        if isinstance(t3, GPT2T3):
            t3.drop_unused()
        # Upstream draws this noise, unseeded, when S3Gen is made, so that every process speaks a little differently.
        decoder = s3gen.flow.decoder
        decoder.rand_noise = torch.randn(decoder.rand_noise.shape, generator=torch.Generator().manual_seed(seed))
        for module in (voice_encoder, t3, s3gen):
            module.eval()
        _fold_weight_norms(s3gen.mel2wav)
        move_to_device(voice_encoder, t3, s3gen, torch.device(device), plan)
        conditionals = None if files.conditionals is None else _conditionals(files.conditionals, device)
        model = assemble(t3, s3gen, voice_encoder, files.tokenizer, device, spec, conditionals)
    _LOGGER.info(
        "Loaded %s from %s on %s in %.1f s", spec.title, files.t3.parent, device, time.perf_counter() - started
    )
    return model


def assemble(
    t3: Any,
    s3gen: Any,
    voice_encoder: Any,
    tokenizer: Sequence[Path],
    device: str,
    spec: ChatterboxSpec,
    conditionals: Any = None,
) -> Any:
    """Returns upstream's ChatterboxTTS of a model's parts; `tokenizer` are its files."""
    model = upstream.load_chatterbox().ChatterboxTTS(
        t3, s3gen, voice_encoder, _tokenizer(tokenizer, spec), device, conds=conditionals
    )
    model.ENC_COND_LEN = spec.clip_seconds * _CLIP_RATE
    return model


def make_t3(spec: ChatterboxSpec) -> Any:
    """Returns a model's T3, without its weights."""
    return GPT2T3(spec.t3) if spec.t3.is_gpt2 else upstream.load_chatterbox().T3(spec.t3)


def make_s3gen(spec: ChatterboxSpec) -> Any:
    """Returns a model's S3Gen, without its weights."""
    s3gen = upstream.load_chatterbox().S3Gen()
    if spec.s3gen.mean_flow:
        estimator = s3gen.flow.decoder.estimator
        width = estimator.time_mlp.linear_2.out_features
        estimator.time_embed_mixer = torch.nn.Linear(2 * width, width, bias=False)
    return s3gen


def free_converted_weights(model: Any, plan: Plan) -> None:
    """Give back the memory of weights that our decoder holds in another precision; nothing where upstream's own modules
    can still be used.

    Args:
        model: upstream's ChatterboxTTS; its own `generate()` cannot be used afterwards.
        plan: of the decoder that was made of it.
    """
    if plan.upstream_weights_intact:
        return
    flow, hift = model.s3gen.flow, model.s3gen.mel2wav
    if plan.token_precision != "float32":
        _drop_weights(network_layers(model.t3))
        _drop_weights(model.t3.speech_head)
        # What is left would keep the whole file mapped, and all that was read of it counts as memory in use.
        for tensor in (*model.t3.parameters(), *model.t3.buffers()):
            tensor.data = tensor.data.clone()
    if plan.flow_precision != "float32":
        _drop_weights(flow.decoder.estimator)
        _drop_weights(flow.encoder.encoders)
        _drop_weights(flow.encoder.up_encoders)
    if plan.vocoder_precision != "float32":
        for part in (hift.conv_pre, hift.resblocks, hift.source_downs, hift.source_resblocks):
            _drop_weights(part)
    # Our encoder has tables of its own, as long as utterances are.
    for embedding in (flow.encoder.embed, flow.encoder.up_embed):
        embedding.pos_enc.pe = None
    if model.t3.device.type == "cuda":
        torch.cuda.empty_cache()


def _drop_weights(module: Any) -> None:
    from transformers.pytorch_utils import Conv1D  # GPT-2's linear layer

    for part in module.modules():
        if isinstance(part, (torch.nn.Linear, torch.nn.Conv1d, Conv1D)):
            release_pages([part.weight])
            part.weight = torch.nn.Parameter(part.weight.new_empty(0), requires_grad=False)


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """Returns the tensors of a .safetensors or .pt file, by name, on the CPU.

    Raises:
        EngineError: the file cannot be read, or holds more than tensors.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        # Mapped, so that what is not used is not read; the format before PyTorch 1.6 cannot be.
        mapped = zipfile.is_zipfile(path)
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # both libraries have errors of their own, and torch unpickles: anything can come
        raise EngineError(
            f"{path} cannot be read as weights ({describe_error(error)}); delete it and let it be downloaded again"
        ) from error
    if isinstance(state, Mapping) and isinstance(state.get("model"), list) and state["model"]:
        state = state["model"][0]  # t3_cfg.pt as published
    if not isinstance(state, Mapping):
        raise EngineError(f"{path} does not hold weights by name, but {type(state).__name__}; give upstream's file")
    return dict(state)


def _load_module(
    make: Callable[[], Any], path: Path, spec: ChatterboxSpec, may_lack: frozenset[str] = frozenset()
) -> Any:
    """Returns a module with the file's weights, which must be exactly the module's but for `may_lack`."""
    with _skip_weight_init():
        module = make()
    state = read_state(path)
    expected = module.state_dict()
    differences = {
        "lacks": sorted(expected.keys() - state.keys() - may_lack),
        "has unknown": sorted(state.keys() - expected.keys()),
        "has other shapes for": sorted(
            name
            for name in expected.keys() & state.keys()
            if getattr(state[name], "shape", None) != expected[name].shape
        ),
    }
    wrong = [f"{what} {_some(names)}" for what, names in differences.items() if names]
    if wrong:
        raise EngineError(f"{path} does not fit {spec.title}: it {', '.join(wrong)}")
    # The file's own pages become the weights: no second copy of 3 GB, and nothing is read before it is used.
    # Weights of another precision are converted, as upstream does.
    state = {name: tensor.to(expected[name].dtype) for name, tensor in state.items()}
    module.load_state_dict(state, strict=False, assign=True)
    return module


def _fold_weight_norms(module: Any) -> None:
    """Compute weights that are given as length and direction (arXiv 1602.07868) once, rather than at every call."""
    from torch.nn.utils import parametrize

    for part in module.modules():
        if parametrize.is_parametrized(part, "weight"):
            parameters = list(part.parametrizations.weight.parameters())
            parametrize.remove_parametrizations(part, "weight", leave_parametrized=True)
            release_pages(parameters)


def _skip_weight_init() -> Any:
    """Returns a context in which fresh modules leave their weights unwritten: memory that nobody touched takes no room,
    and drawing half a billion random numbers takes longer than reading them from a file."""
    from torch.utils._python_dispatch import TorchDispatchMode

    left_out = {torch.ops.aten.uniform_.default, torch.ops.aten.normal_.default}

    class Unfilled(TorchDispatchMode):  # type: ignore[misc, unused-ignore]
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            return args[0] if function in left_out else function(*args, **(kwargs or {}))

    return Unfilled()


def _conditionals(path: Path, device: str) -> Any:
    """Returns the built-in voice's conditionals (upstream's Conditionals) from conds.pt."""
    tts = upstream.load_chatterbox()
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        return tts.Conditionals(tts.T3Cond(**content["t3"]), dict(content["gen"])).to(device)
    except Exception as error:  # as in read_state
        raise EngineError(
            f"{path} cannot be read as a voice ({describe_error(error)}); delete it and let it be downloaded again"
        ) from error


def _tokenizer(paths: Sequence[Path], spec: ChatterboxSpec) -> Any:
    """Returns what turns a text into a model's tokens, as upstream's EnTokenizer."""
    try:
        if spec.t3.is_gpt2:
            return GPT2TextTokenizer(paths[0].parent)
        if spec.multilingual:
            return MultilingualTokenizer(paths)
        return upstream.load_chatterbox().EnTokenizer(str(paths[0]))
    except Exception as error:  # the tokenizers library raises bare Exception, upstream asserts
        raise EngineError(f"{paths[0]} is not {spec.title}'s tokenizer ({describe_error(error)})") from error


def _some(names: Iterable[str]) -> str:
    names = list(names)
    shown = ", ".join(names[:_KEYS_SHOWN])
    return shown if len(names) <= _KEYS_SHOWN else f"{shown} and {len(names) - _KEYS_SHOWN} more"
