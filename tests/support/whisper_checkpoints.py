"""Writes checkpoints in Whisper's format, with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from whisper.model import AudioEncoder, ModelDimensions, TextDecoder

SMALL = {"n_mels": 80, "n_audio_ctx": 1500, "n_audio_state": 64, "n_audio_head": 2, "n_audio_layer": 2}
LARGE_V3 = {"n_mels": 128, "n_audio_ctx": 1500, "n_audio_state": 1280, "n_audio_head": 20, "n_audio_layer": 32}
TEXT = {"n_vocab": 51866, "n_text_ctx": 448, "n_text_state": 1280, "n_text_head": 20, "n_text_layer": 32}
SMALL_TEXT = {"n_vocab": 99, "n_text_ctx": 8, "n_text_state": 64, "n_text_head": 2, "n_text_layer": 1}


def new_encoder(dims: dict[str, int], *, seed: int = 0) -> AudioEncoder:
    """The package's own encoder."""
    torch.manual_seed(seed)
    return AudioEncoder(
        dims["n_mels"], dims["n_audio_ctx"], dims["n_audio_state"], dims["n_audio_head"], dims["n_audio_layer"]
    ).eval()


def random_state(dims: dict[str, int], dtype: torch.dtype) -> dict[str, Tensor]:
    """Encoder weights of given dimensions without ever holding them in float32."""
    with torch.device("meta"):
        shapes = new_encoder(dims).state_dict()
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, meta in shapes.items():
        scale = meta.shape[-1] ** -0.5 if meta.ndim > 1 else 0.02
        state[name] = torch.empty(meta.shape, dtype=dtype).normal_(0.0, scale, generator=generator)
        if "ln" in name and name.endswith("weight"):
            state[name].fill_(1.0)
    return state


def write_whisper(
    path: Path, dims: dict[str, int], encoder: dict[str, Tensor], *, decoder: bool = True, **extra: Any
) -> Path:
    """`{"dims", "model_state_dict"}` as `openai-whisper` reads it; `extra` goes beside them."""
    state = {f"encoder.{name}": tensor for name, tensor in encoder.items()}
    if decoder:
        d = ModelDimensions(**dims, **SMALL_TEXT)
        text = TextDecoder(d.n_vocab, d.n_text_ctx, d.n_text_state, d.n_text_head, d.n_text_layer)
        state |= {f"decoder.{name}": tensor for name, tensor in text.state_dict().items()}
    all_dims = {**dims, **(TEXT if dims == LARGE_V3 else SMALL_TEXT)}
    torch.save({"dims": all_dims, "model_state_dict": state, **extra}, path)
    return path
