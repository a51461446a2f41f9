"""Speech checkpoints: our own encoder with its heads, or heads alone on somebody's Whisper.

A checkpoint of heads names Whisper's by the hash of its file (`SpeechConfig.whisper_sha256`), and its own content hash,
to which motion weights are bound, covers that name: motion runs on the encoder it was trained with or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from model.errors import CheckpointBindingError, CheckpointError
from model.fetching import sha256_of
from model.speech.speech_model import SpeechConfig, SpeechModel
from model.speech.whisper_encoder import EncoderConfig, Precision, best_precision
from model.speech.whisper_source import WhisperFile, load_whisper_encoder, official_name

__all__ = ["KIND", "LoadedSpeech", "load_speech", "new_whisper_speech", "save_speech"]

KIND: Final = "speech"
_ENCODER_PREFIX: Final = "encoder."
_SHOWN_HASH_DIGITS: Final = 16


@dataclass(frozen=True)
class LoadedSpeech:
    """A speech model ready to run, and the content hash that motion weights are bound to."""

    model: SpeechModel
    content_hash: str


def new_whisper_speech(
    whisper: WhisperFile,
    *,
    window_columns: int = EncoderConfig().window_columns,
    patch_channels: int = SpeechConfig().patch_channels,
) -> SpeechModel:
    """A model to train: new heads on Whisper's frozen encoder, which is cast to this CPU's best precision.

    Raises:
        CheckpointError: The checkpoint cannot be used.
    """
    encoder = load_whisper_encoder(whisper.path, window_columns=window_columns)
    encoder.set_precision(best_precision(torch.device("cpu")))
    config = SpeechConfig(encoder=encoder.config, patch_channels=patch_channels, whisper_sha256=whisper.sha256)
    return SpeechModel(config, encoder)


def save_speech(path: Path, model: SpeechModel, metadata: Mapping[str, str]) -> str:
    """Write a checkpoint in half precision, without the encoder if it is Whisper's; returns its content hash."""
    state = model.state_dict()
    if model.config.whisper_sha256:
        state = {name: tensor for name, tensor in state.items() if not name.startswith(_ENCODER_PREFIX)}
    tensors = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    return save_checkpoint(path, tensors, kind=KIND, config=model.config, metadata=metadata)


def load_speech(
    path: Path,
    *,
    whisper: Path | None = None,
    device: torch.device | None = None,
    precision: Precision | None = None,
) -> LoadedSpeech:
    """Load a checkpoint, and with it the encoder of `whisper` if it was trained on one.

    `device` is the CPU if not given, `precision` the encoder's (the heads run in fp32): the device's best.

    Raises:
        CheckpointBindingError: `whisper` is not the encoder it was trained on.
        CheckpointError: A file is missing, damaged or foreign, or the heads need a Whisper and none was given.
    """
    checkpoint = load_checkpoint(path, kind=KIND, config_cls=SpeechConfig)
    _check_whisper(path, checkpoint.config, whisper)
    model = _assemble(path, checkpoint, whisper)
    place = device or torch.device("cpu")
    model.encoder.set_precision(precision or best_precision(place))
    return LoadedSpeech(model.to(place).eval().requires_grad_(False), checkpoint.content_hash)


def _check_whisper(path: Path, config: SpeechConfig, whisper: Path | None) -> None:
    wanted = config.whisper_sha256
    if whisper is None:
        if wanted:
            remedy = f"pass --whisper {official_name(wanted) or 'FILE'}"
            raise CheckpointError(path, f"needs the Whisper checkpoint with sha256 {wanted}: {remedy}")
        return
    found = sha256_of(whisper) if whisper.is_file() else "no such file"
    if found != wanted:
        raise CheckpointBindingError(
            path,
            needs="Whisper" if wanted else "an encoder of its own",
            wanted=wanted[:_SHOWN_HASH_DIGITS] or "inside it",
            found=f"{whisper} ({found[:_SHOWN_HASH_DIGITS]})",
            remedy="nerf-lipsync train speech --whisper, then nerf-lipsync train motion",
        )


def _assemble(path: Path, checkpoint: Checkpoint[SpeechConfig], whisper: Path | None) -> SpeechModel:
    config = checkpoint.config
    encoder = load_whisper_encoder(whisper, window_columns=config.encoder.window_columns) if whisper else None
    if encoder and encoder.config != config.encoder:
        raise CheckpointError(path, f"was made for {config.encoder}, {whisper} has {encoder.config}")
    try:
        model = SpeechModel(config, encoder)
    except ValueError as error:
        raise CheckpointError(path, str(error)) from error
    tensors = {k: v.float() if v.is_floating_point() else v for k, v in checkpoint.tensors.items()}
    _check_tensors(path, tensors, model, heads_only=encoder is not None)
    model.load_state_dict(tensors, strict=False)
    return model


def _check_tensors(path: Path, tensors: Mapping[str, Tensor], model: SpeechModel, *, heads_only: bool) -> None:
    """All of the model's tensors, in their shapes, and no others; of heads, all but the encoder's."""
    wanted = {
        name: tensor.shape
        for name, tensor in model.state_dict().items()
        if not (heads_only and name.startswith(_ENCODER_PREFIX))
    }
    for name in sorted(wanted.keys() | tensors.keys()):
        if name not in tensors or name not in wanted or tensors[name].shape != wanted[name]:
            found = tuple(tensors[name].shape) if name in tensors else "missing"
            meant = tuple(wanted[name]) if name in wanted else "nothing"
            reason = f"{name} is {found}, this program wants {meant}: run nerf-lipsync train speech"
            raise CheckpointError(path, reason)
