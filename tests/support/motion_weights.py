"""Writes motion weights with random values that say which speech encoder they were trained with."""

from __future__ import annotations

from pathlib import Path

import torch

from model.checkpoint import save_checkpoint
from model.diffusion.unet import TemporalUNet, UNetConfig
from model.motion.space import load_motion_space
from model.motion.vae import MotionVae, VaeConfig


def write_motion(folder: Path, speech_hash: str) -> None:
    """A VAE, and a U-Net bound to it, to today's motion space and to the speech encoder `speech_hash`."""
    torch.manual_seed(0)
    vae_config, config = VaeConfig(), UNetConfig()
    vae_state = MotionVae(vae_config).state_dict()
    vae_hash = save_checkpoint(folder / "motion_vae.safetensors", vae_state, kind="motion-vae", config=vae_config)
    bindings = {"speech": speech_hash, "vae": vae_hash, "motion_space": load_motion_space().hash}
    state = {name: tensor.half() for name, tensor in TemporalUNet(config).state_dict().items()}
    save_checkpoint(folder / "motion.safetensors", state, kind="motion", config=config, metadata=bindings)
