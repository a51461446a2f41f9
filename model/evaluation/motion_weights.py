"""Samplers of motion checkpoints beside the shipped one: teachers, students, and the variants of an ablation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from model.checkpoint import load_checkpoint, read_checkpoint_info
from model.diffusion.generator import MotionGenerator
from model.diffusion.unet import TemporalUNet, UNetConfig
from model.errors import CheckpointBindingError
from model.motion_stack import ASSETS, SPEECH_FILE, VAE_FILE, MotionStack
from model.speech.stream import SpeechFeatures
from model.speech_to_motion import SpeechToMotion

__all__ = ["hearing_for", "load_unet", "other_sampler"]


def load_unet(path: Path, *, folder: Path = ASSETS) -> TemporalUNet:
    """The network of a motion checkpoint, which must be made for the encoder and the decoder of `folder`.

    Raises:
        CheckpointBindingError: It was trained with other ones.
        CheckpointError: A file is missing, damaged or of another kind.
    """
    file = load_checkpoint(path, kind="motion", config_cls=UNetConfig)
    for needs, key, name in (("speech encoder", "speech", SPEECH_FILE), ("motion VAE", "vae", VAE_FILE)):
        wanted, found = file.metadata.get(key, ""), read_checkpoint_info(folder / name).content_hash
        if wanted != found:
            raise CheckpointBindingError(path, needs=needs, wanted=wanted, found=found, remedy="nerf-lipsync train all")
    unet = TemporalUNet(file.config)
    unet.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in file.tensors.items()})
    return unet.eval()


def other_sampler(
    unet: TemporalUNet, drive: SpeechToMotion, *, num_steps: int, temperature: float = 1.0
) -> MotionGenerator:
    """A sampler of `unet` that starts from the rest of `drive`. A flow may take more steps than it was trained with."""
    sampler = MotionGenerator(unet, drive.stack.generator.rest_latent, num_steps=num_steps, temperature=temperature)
    if unet.config.process != "ddpm":  # whose time is discrete
        sampler.config = replace(sampler.config, num_timesteps=max(num_steps, sampler.config.num_timesteps))
    return sampler


def hearing_for(sampler: MotionGenerator, drive: SpeechToMotion) -> SpeechToMotion:
    """`drive` with this sampler, its ears set to the sampler's hop and look-ahead."""
    config, speech = sampler.config, drive.stack.speech
    if (config.hop_frames, config.lookahead_frames) != (speech.hop_frames, speech.lookahead_frames):
        speech = SpeechFeatures(speech.model, hop_frames=config.hop_frames, lookahead_frames=config.lookahead_frames)
    return replace(drive, stack=MotionStack(speech, sampler, drive.stack.vae))
