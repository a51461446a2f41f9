"""Other checkpoints' samplers: bound to the shipped encoder and decoder, heard with their own hop and look-ahead."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from model.errors import CheckpointBindingError
from model.evaluation.motion_weights import hearing_for, load_unet, other_sampler
from tests.support.closeness import assert_close
from tests.support.small_drive import shipped_hashes, small_drive, small_unet, write_unet


def test_a_checkpoint_comes_back_as_stored(tmp_path: Path) -> None:
    unet = small_unet(process="flow")
    loaded = load_unet(write_unet(tmp_path / "motion.safetensors", unet, shipped_hashes()))
    assert loaded.config == unet.config
    assert_close(loaded.state_dict()["enter.weight"], unet.state_dict()["enter.weight"].half().float())


@pytest.mark.parametrize(("key", "words"), [("speech", "speech encoder"), ("vae", "motion VAE")])
def test_weights_of_another_encoder_or_decoder_are_refused(tmp_path: Path, key: str, words: str) -> None:
    path = write_unet(tmp_path / "motion.safetensors", small_unet(), shipped_hashes() | {key: "f" * 16})
    with pytest.raises(CheckpointBindingError, match=f"{words} ffffffffffffffff, found"):
        load_unet(path)


def test_a_flow_takes_any_number_of_steps_and_ddpm_its_own() -> None:
    drive, features = small_drive(), torch.randn(1, 4, 256)
    flow = other_sampler(small_unet(process="flow"), drive, num_steps=70)
    assert flow.step(features, [flow.new_state(0)])[:, -2:].isfinite().all()
    ddpm = other_sampler(small_unet(), drive, num_steps=70)
    with pytest.raises(ValueError, match=r"1\.\.50"):
        ddpm.step(features, [ddpm.new_state(0)])


def test_ears_follow_the_sampler() -> None:
    drive = small_drive()
    same = hearing_for(other_sampler(small_unet(process="flow"), drive, num_steps=1), drive)
    assert same.stack.speech is drive.stack.speech
    sampler = other_sampler(small_unet(hop_frames=1, lookahead_frames=4), drive, num_steps=1)
    other = hearing_for(sampler, drive)
    assert (other.hop_frames, other.lookahead_frames, other.hop_samples) == (1, 4, 640)
    assert other.stack.generator is sampler
