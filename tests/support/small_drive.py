"""Speech to motion with random weights of a few thousand numbers: the whole serving path, in milliseconds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from model.checkpoint import read_checkpoint_info, save_checkpoint
from model.diffusion.generator import MotionGenerator
from model.diffusion.unet import Process, TemporalUNet, UNetConfig
from model.motion.vae import MotionVae, VaeConfig
from model.motion_stack import ASSETS, SPEECH_FILE, VAE_FILE, MotionStack
from model.speech.speech_model import SpeechConfig, SpeechModel
from model.speech.stream import SpeechFeatures
from model.speech.voice_activity import load_voice_activity
from model.speech.whisper_encoder import EncoderConfig
from model.speech_to_motion import SpeechToMotion


def small_unet(
    *, seed: int = 0, process: Process = "ddpm", hop_frames: int = 2, lookahead_frames: int = 2
) -> TemporalUNet:
    """A U-Net whose every layer takes part (fresh ones begin as zero)."""
    torch.manual_seed(seed)
    unet = TemporalUNet(
        UNetConfig(
            process=process,
            hop_frames=hop_frames,
            lookahead_frames=lookahead_frames,
            channels=(16, 16),
            condition_size=16,
            context_size=16,
            num_heads=2,
        )
    )
    with torch.no_grad():
        for weight in unet.parameters():
            weight.add_(torch.randn_like(weight) * 0.05)
    return unet.eval()


def small_drive(*, num_steps: int = 2, temperature: float = 1.0) -> SpeechToMotion:
    """Equal weights every time."""
    unet = small_unet()
    speech = SpeechModel(SpeechConfig(encoder=EncoderConfig(num_layers=1, width=32, num_heads=2)))
    features = SpeechFeatures(speech, hop_frames=2, lookahead_frames=2)
    generator = MotionGenerator(unet, torch.zeros(16), num_steps=num_steps, temperature=temperature)
    return SpeechToMotion(MotionStack(features, generator, MotionVae(VaeConfig()).eval()), load_voice_activity())


def shipped_hashes() -> dict[str, str]:
    """What a motion checkpoint records of the shipped encoder and decoder."""
    files = {"speech": SPEECH_FILE, "vae": VAE_FILE}
    return {key: read_checkpoint_info(ASSETS / name).content_hash for key, name in files.items()}


def write_unet(path: Path, unet: TemporalUNet, bound: Mapping[str, str]) -> Path:
    """A motion checkpoint of `unet`, in half precision as trained ones are."""
    tensors = {name: tensor.half() for name, tensor in unet.state_dict().items()}
    save_checkpoint(path, tensors, kind="motion", config=unet.config, metadata=bound)
    return path
