"""Finds, verifies and reads the encoder of anybody's Whisper checkpoint, without running anything stored in it.

A checkpoint is `openai-whisper`'s own (`{"dims", "model_state_dict"}`, a pickle, read with `weights_only`) or a
safetensors file with those names or Hugging Face's. It is identified by the SHA-256 of its file, by which speech
weights that were trained on it name it. Only the encoder is read: a file without the decoder will do.
"""

from __future__ import annotations

import logging
import pickle
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from model.errors import CheckpointError, InputError
from model.fetching import TIMEOUT_S, FetchError, fetch_file, sha256_of
from model.speech.whisper_encoder import EncoderConfig, WindowedEncoder

__all__ = ["WhisperFile", "default_whisper_cache", "find_whisper", "load_whisper_encoder", "official_name"]

LARGEST_BYTES: Final = 4 << 30
MEL_BANDS: Final = (80, 128)
"""What Whisper's filter banks come in."""
HEAD_WIDTH: Final = 64
"""Of every released Whisper; safetensors do not record the number of heads."""
_DIMS: Final = {
    "n_mels": "num_mels",
    "n_audio_ctx": "",  # the window is ours; only its length is checked
    "n_audio_state": "width",
    "n_audio_head": "num_heads",
    "n_audio_layer": "num_layers",
}
_LARGEST_DIM: Final = 16_384
_PREFIX: Final = "encoder."
_TABLE: Final = "positional_embedding"
_HUGGING_FACE: Final = (
    ("layers.", "blocks."),
    ("self_attn_layer_norm", "attn_ln"),
    ("self_attn.q_proj", "attn.query"),
    ("self_attn.k_proj", "attn.key"),
    ("self_attn.v_proj", "attn.value"),
    ("self_attn.out_proj", "attn.out"),
    ("final_layer_norm", "mlp_ln"),
    ("fc1", "mlp.0"),
    ("fc2", "mlp.2"),
    ("embed_positions.weight", _TABLE),
)
_UNREADABLE: Final = (RuntimeError, OSError, EOFError, ValueError, LookupError, AttributeError, TypeError, struct.error)
"""What `torch.load` raises on files that are no checkpoints."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class WhisperFile:
    """A checkpoint on this machine, and who it is."""

    path: Path
    sha256: str  # lower-case hexadecimal, of the whole file

    @property
    def name(self) -> str:
        """Whisper's own name of it, or that of the file."""
        return official_name(self.sha256) or self.path.name


def default_whisper_cache(environment: Mapping[str, str], home: Path) -> Path:
    """Where `openai-whisper` keeps its downloads: `whisper` below `$XDG_CACHE_HOME`, else below `home`/.cache.

    The environment is handed in: only the command line reads it.
    """
    return Path(environment.get("XDG_CACHE_HOME") or home / ".cache") / "whisper"


def find_whisper(whisper: str, cache: Path, *, timeout_s: float = TIMEOUT_S) -> WhisperFile:
    """A checkpoint by Whisper's name ("base", "large-v3"), kept in `cache` or fetched into it, or by path.

    Raises:
        InputError: No such name or file; or it is not in `cache` and could not be fetched; or the kept file is not
            the one that the name stands for.
    """
    path = Path(whisper).expanduser()
    if path.is_file():
        return WhisperFile(path=path, sha256=sha256_of(path))
    urls = _official_urls()
    if whisper not in urls:
        if path.is_dir():
            raise InputError(f"{path} is a folder: pass the checkpoint file in it (.pt or .safetensors)")
        if path.suffix or path.parent != Path():
            raise InputError(f"no Whisper checkpoint at {path}")
        raise InputError(f"no Whisper model {whisper!r}: pass a checkpoint's path or one of {', '.join(urls)}")
    kept = cache / urls[whisper].rsplit("/", 1)[-1]
    sha256 = _sha256_in(urls[whisper])
    if not kept.is_file():
        _fetch(whisper, urls[whisper], kept, timeout_s)
    elif (found := sha256_of(kept)) != sha256:
        wanted = f"not {sha256} as Whisper {whisper!r}"
        raise InputError(f"{kept} has sha256 {found}, {wanted}: delete it, or pass the path of a copy")
    return WhisperFile(path=kept, sha256=sha256)


def official_name(sha256: str) -> str:
    """Whisper's name of the checkpoint with this hash, "" where it is nobody's we know."""
    return next((name for name, url in _official_urls().items() if _sha256_in(url) == sha256), "")


def load_whisper_encoder(path: Path, *, window_columns: int = EncoderConfig().window_columns) -> WindowedEncoder:
    """The encoder of a checkpoint, cut to windows of `window_columns` (10 ms each), frozen, in the file's own types.

    Call `set_precision` before use. Memory is that of the encoder: the rest of the file is mapped and never read.

    Raises:
        CheckpointError: The file is truncated, foreign, holds more than weights, or its tensors do not fit its
            dimensions, or those the window.
    """
    tensors, dims = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    config = _config(dims, window_columns, path)
    table = tensors.get(_TABLE)
    if isinstance(table, Tensor) and table.ndim == 2:
        tensors[_TABLE] = table[: config.window_tokens]
    with torch.device("meta"):
        encoder = WindowedEncoder(config)
    _check_tensors(tensors, encoder.encoder.state_dict(), path)
    own = {name: tensor.clone() for name, tensor in tensors.items()}  # away from the map of the file
    encoder.encoder.load_state_dict(own, assign=True)
    return encoder.requires_grad_(False).eval()


def _official_urls() -> dict[str, str]:
    """Download addresses by name: a private table of `openai-whisper`, whose form a test watches."""
    from whisper import _MODELS

    return dict(_MODELS)


def _fetch(name: str, url: str, kept: Path, timeout_s: float) -> None:
    def say() -> None:
        _log.warning("fetching Whisper %r from %s", name, url)

    sha256 = _sha256_in(url)
    try:
        fetch_file(url, kept, sha256=sha256, limit_bytes=LARGEST_BYTES, timeout_s=timeout_s, on_answer=say)
    except FetchError as error:
        remedy = f"copy {kept.name} there, or pass the path of a copy"
        raise InputError(f"Whisper {name!r} is not in {kept.parent}; {error}; {remedy}") from error


def _sha256_in(url: str) -> str:
    """Whisper's addresses hold the hash as the last folder."""
    return url.split("/")[-2]


def _read_torch(path: Path) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """Encoder tensors under `AudioEncoder`'s names, and Whisper's dimensions."""
    try:
        held = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise CheckpointError(path, "is not a checkpoint, or holds Python objects beside weights: refused") from error
    except _UNREADABLE as error:
        raise CheckpointError(path, "is truncated or not a PyTorch checkpoint") from error
    if not (isinstance(held, dict) and isinstance(held.get("dims"), dict)):
        raise CheckpointError(path, "is not a Whisper checkpoint: it has no 'dims'")
    if not isinstance(held.get("model_state_dict"), dict):
        raise CheckpointError(path, "is not a Whisper checkpoint: it has no 'model_state_dict'")
    return _encoder_part(held["model_state_dict"], path), held["dims"]


def _read_safetensors(path: Path) -> tuple[dict[str, Any], Mapping[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            names = [name for name in file.keys() if name.removeprefix("model.").startswith(_PREFIX)]  # noqa: SIM118
            tensors = {name.removeprefix("model."): file.get_tensor(name) for name in names}
    except (OSError, SafetensorError) as error:
        raise CheckpointError(path, f"is truncated or not a safetensors file ({error})") from error
    part = _encoder_part({_whisper_name(name): tensor for name, tensor in tensors.items()}, path)
    return part, _dims_of(part, path)


def _whisper_name(name: str) -> str:
    """An encoder tensor's name in `openai-whisper`'s words, given in those or Hugging Face's."""
    own = name.removeprefix(_PREFIX)
    if own.startswith("layer_norm."):
        return f"{_PREFIX}ln_post.{own.removeprefix('layer_norm.')}"
    for theirs, ours in _HUGGING_FACE:
        own = own.replace(theirs, ours)
    return _PREFIX + own


def _encoder_part(state: Mapping[object, Any], path: Path) -> dict[str, Any]:
    part = {
        name.removeprefix(_PREFIX): value
        for name, value in state.items()
        if isinstance(name, str) and name.startswith(_PREFIX)
    }
    if not part:
        raise CheckpointError(path, "is not a Whisper checkpoint: it has no encoder tensors")
    return part


def _dims_of(tensors: Mapping[str, Any], path: Path) -> dict[str, int]:
    """Whisper's dimensions as the shapes tell them."""
    conv, table = tensors.get("conv1.weight"), tensors.get(_TABLE)
    if conv is None or conv.ndim != 3 or table is None or table.ndim != 2:
        raise CheckpointError(path, "is not a Whisper checkpoint: it lacks conv1.weight or the positional table")
    layers = {name.split(".")[1] for name in tensors if name.startswith("blocks.")}
    return {
        "n_mels": conv.shape[1],
        "n_audio_ctx": table.shape[0],
        "n_audio_state": conv.shape[0],
        "n_audio_head": conv.shape[0] // HEAD_WIDTH,
        "n_audio_layer": len(layers),
    }


def _config(dims: Mapping[str, Any], window_columns: int, path: Path) -> EncoderConfig:
    for name in _DIMS:
        value = dims.get(name)
        if type(value) is not int or not 0 < value <= _LARGEST_DIM:
            raise CheckpointError(path, f"has the dimension {name} {value!r}, wanted 1..{_LARGEST_DIM}")
    if dims["n_mels"] not in MEL_BANDS:
        raise CheckpointError(path, f"wants {dims['n_mels']} mel bands; Whisper's filters come in {MEL_BANDS}")
    if dims["n_audio_state"] % (2 * dims["n_audio_head"]):
        raise CheckpointError(path, f"has {dims['n_audio_head']} heads for a width of {dims['n_audio_state']}")
    config = EncoderConfig(
        window_columns=window_columns, **{ours: dims[theirs] for theirs, ours in _DIMS.items() if ours}
    )
    if config.window_tokens > dims["n_audio_ctx"]:
        raise CheckpointError(path, f"knows {dims['n_audio_ctx']} tokens, the window has {config.window_tokens}")
    return config


def _check_tensors(found: Mapping[str, Any], wanted: Mapping[str, Tensor], path: Path) -> None:
    for name, tensor in wanted.items():
        value = found.get(name)
        if not isinstance(value, Tensor) or not value.is_floating_point() or value.layout != torch.strided:
            raise CheckpointError(path, f"is damaged or no Whisper checkpoint: encoder.{name} is missing")
        if value.shape != tensor.shape:
            shapes = f"{tuple(value.shape)}, its dimensions say {tuple(tensor.shape)}"
            raise CheckpointError(path, f"encoder.{name} has the shape {shapes}")
    foreign = sorted(set(found) - set(wanted))
    if foreign:
        raise CheckpointError(path, f"has an encoder tensor that Whisper lacks: {foreign[0]}")
