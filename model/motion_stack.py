"""The shipped speech-to-motion models, loaded together and checked against each other's hashes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.checkpoint import Checkpoint, load_checkpoint
from model.diffusion.generator import MotionGenerator, StreamTiming
from model.diffusion.unet import TemporalUNet, UNetConfig
from model.errors import CheckpointBindingError
from model.motion.space import load_motion_space
from model.motion.vae import MotionVae, VaeConfig
from model.motion.view_bias import ViewBias
from model.speech.encoder_graph import serving_precision
from model.speech.speech_file import load_speech
from model.speech.stream import SpeechFeatures
from model.speech.whisper_encoder import Precision

ASSETS = Path(__file__).parent / "assets"
SPEECH_FILE = "speech.safetensors"
VAE_FILE = "motion_vae.safetensors"
MOTION_FILE = "motion.safetensors"


@dataclass(frozen=True)
class MotionStack:
    """Audio hops to motion."""

    speech: SpeechFeatures
    generator: MotionGenerator
    vae: MotionVae
    view_bias: str = ""  # hash of the map under which the U-Net learned head pose

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> NDArray[np.float32]:
        """Motion (B, T, 32) of latents (B, T, 16)."""
        return np.array(self.vae.decode(latents).numpy())


def load_motion_stack(
    folder: Path = ASSETS,
    *,
    whisper: Path | None = None,
    num_steps: int = 2,
    temperature: float = 0.0,
    device: torch.device | None = None,
    precision: Precision | None = None,
    timing: StreamTiming | None = None,
    instruction_set: str = "auto",
) -> MotionStack:
    """Load encoder, VAE and U-Net from one folder.

    `whisper` is the checkpoint of the Whisper that the folder's speech heads were trained on, if they were;
    `device` is the encoder's (the CPU if not given), `precision` too (that device's fastest). `timing` None: as
    trained. On a CPU the networks run at a level of the native library that may be named, as the ray marcher does.

    Raises:
        CheckpointBindingError: The U-Net was trained with another encoder, VAE or motion space, or the speech heads on
            another Whisper.
        ConfigError: The network cannot be cut so.
        ModelError: A file is missing or damaged.
    """
    place = device or torch.device("cpu")
    precision = precision or serving_precision(place, instruction_set)
    speech = load_speech(folder / SPEECH_FILE, whisper=whisper, device=place, precision=precision)
    vae = load_checkpoint(folder / VAE_FILE, kind="motion-vae", config_cls=VaeConfig)
    motion = load_checkpoint(folder / MOTION_FILE, kind="motion", config_cls=UNetConfig)
    _check_bindings(folder / MOTION_FILE, motion, speech.content_hash, vae.content_hash)
    vae_model = MotionVae(vae.config)
    vae_model.load_state_dict(vae.tensors)
    unet = TemporalUNet(motion.config)
    unet.load_state_dict(_single(motion.tensors))
    cut = motion.config if timing is None else timing.apply(motion.config)
    features = SpeechFeatures(
        speech.model,
        hop_frames=cut.hop_frames,
        lookahead_frames=cut.lookahead_frames,
        instruction_set=instruction_set,
    )
    features.warm_up()
    with torch.inference_mode():
        rest = vae_model.eval().encode(torch.zeros(1, 8, 32))[0, -1].clone()
    generator = MotionGenerator(
        unet, rest, num_steps=num_steps, temperature=temperature, timing=timing, instruction_set=instruction_set
    )
    return MotionStack(features, generator, vae_model, motion.metadata.get("view_bias", ""))


def check_views(stack: MotionStack, bias: ViewBias) -> None:
    """Raise CheckpointBindingError unless the U-Net learned head pose under this map."""
    if stack.generator.config.pose_size and stack.view_bias != bias.hash:
        remedy = "nerf-lipsync train motion"
        raise CheckpointBindingError(
            ASSETS / MOTION_FILE, needs="view bias", wanted=stack.view_bias, found=bias.hash, remedy=remedy
        )


def _check_bindings(path: Path, motion: Checkpoint[UNetConfig], speech_hash: str, vae_hash: str) -> None:
    space_hash = load_motion_space().hash
    remedy = "nerf-lipsync train motion"
    for needs, key, found in (
        ("speech encoder", "speech", speech_hash),
        ("motion VAE", "vae", vae_hash),
        ("motion space", "motion_space", space_hash),
    ):
        wanted = motion.metadata.get(key, "")
        if wanted != found:
            raise CheckpointBindingError(path, needs=needs, wanted=wanted, found=found, remedy=remedy)


def _single(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Half-precision weights as stored, back to float32."""
    return {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}
