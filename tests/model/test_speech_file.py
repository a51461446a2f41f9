"""Speech checkpoints: the shipped kind, heads on a Whisper, and what they are bound to."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from model.checkpoint import load_checkpoint, save_checkpoint
from model.errors import CheckpointBindingError, CheckpointError
from model.motion_stack import load_motion_stack
from model.speech.speech_file import load_speech, new_whisper_speech, save_speech
from model.speech.speech_model import SpeechConfig, SpeechModel
from model.speech.whisper_encoder import EncoderConfig
from model.speech.whisper_source import find_whisper
from tests.support.motion_weights import write_motion
from tests.support.whisper_checkpoints import SMALL, random_state, write_whisper

OWN = SpeechConfig(encoder=EncoderConfig(width=64, num_heads=2, num_layers=2))


@pytest.fixture
def whisper(tmp_path: Path) -> Path:
    return write_whisper(tmp_path / "own.pt", SMALL, random_state(SMALL, torch.float16))


def new_heads(folder: Path, whisper: Path) -> tuple[SpeechModel, str]:
    """Heads on `whisper`, written to `folder`."""
    torch.manual_seed(0)
    model = new_whisper_speech(find_whisper(str(whisper), folder))
    return model, save_speech(folder / "speech.safetensors", model, {"data": "none"})


@torch.inference_mode()
def test_our_own_encoder_comes_back_from_its_checkpoint(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = SpeechModel(OWN).eval()
    digest = save_speech(tmp_path / "s.safetensors", model, {})
    loaded = load_speech(tmp_path / "s.safetensors", precision="fp32")
    assert loaded.content_hash == digest and loaded.model.encoder.precision == "fp32"
    mel = torch.rand(1, 96, 80)
    rounded = SpeechModel(OWN).eval()
    rounded.load_state_dict({k: v.half().float() for k, v in model.state_dict().items()})
    assert torch.equal(loaded.model(mel).features, rounded(mel).features)


@torch.inference_mode()
def test_heads_are_stored_without_the_encoder_and_find_it_again(tmp_path: Path, whisper: Path) -> None:
    model, digest = new_heads(tmp_path, whisper)
    stored = load_checkpoint(tmp_path / "speech.safetensors", kind="speech", config_cls=SpeechConfig)
    assert not any(name.startswith("encoder.") for name in stored.tensors)
    assert stored.config.whisper_sha256 == find_whisper(str(whisper), tmp_path).sha256
    loaded = load_speech(tmp_path / "speech.safetensors", whisper=whisper)
    assert loaded.content_hash == digest
    mel = torch.rand(1, 96, 80)
    assert torch.equal(loaded.model.encoder(mel.transpose(1, 2)), model.encoder(mel.transpose(1, 2)))
    rounded = new_whisper_speech(find_whisper(str(whisper), tmp_path)).eval()
    heads = {k: v.half().float() for k, v in model.state_dict().items() if not k.startswith("encoder.")}
    rounded.load_state_dict(heads, strict=False)
    assert torch.equal(loaded.model(mel).features, rounded(mel).features)


def test_a_whisper_is_frozen_while_its_heads_learn(tmp_path: Path, whisper: Path) -> None:
    model, _ = new_heads(tmp_path, whisper)
    model(torch.rand(2, 96, 80)).phonemes.sum().backward()
    learning = {name for name, p in model.named_parameters() if p.requires_grad}
    assert learning and not any(name.startswith("encoder.") for name in learning)
    assert model.phoneme_head.weight.grad is not None and float(model.phoneme_head.weight.grad.abs().sum()) > 0


def test_another_whisper_is_another_hash(tmp_path: Path, whisper: Path) -> None:
    _, first = new_heads(tmp_path, whisper)
    other = write_whisper(tmp_path / "other.pt", SMALL, random_state(SMALL, torch.bfloat16))
    _, second = new_heads(tmp_path, other)
    assert first != second, "the heads are equal; only the name of the encoder differs"


def test_the_wrong_whisper_is_refused_with_the_commands(tmp_path: Path, whisper: Path) -> None:
    new_heads(tmp_path, whisper)
    other = write_whisper(tmp_path / "other.pt", SMALL, random_state(SMALL, torch.bfloat16))
    with pytest.raises(CheckpointBindingError, match=r"found .*other\.pt .*train speech --whisper.*train motion"):
        load_speech(tmp_path / "speech.safetensors", whisper=other)
    with pytest.raises(CheckpointBindingError, match="no such file"):
        load_speech(tmp_path / "speech.safetensors", whisper=tmp_path / "absent.pt")
    with pytest.raises(CheckpointError, match=r"needs the Whisper checkpoint with sha256 .*: pass --whisper FILE"):
        load_speech(tmp_path / "speech.safetensors")


def test_a_whisper_beside_our_own_encoder_is_refused(tmp_path: Path, whisper: Path) -> None:
    save_speech(tmp_path / "s.safetensors", SpeechModel(OWN), {})
    with pytest.raises(CheckpointBindingError, match=r"encoder of its own inside it, found .*train motion"):
        load_speech(tmp_path / "s.safetensors", whisper=whisper)


def test_missing_and_misshapen_weights_are_named(tmp_path: Path) -> None:
    state = SpeechModel(OWN).state_dict()
    path = tmp_path / "s.safetensors"
    for broken, complaint in (
        ({k: v for k, v in state.items() if k != "voice_head.weight"}, r"voice_head\.weight is missing"),
        ({**state, "voice_head.bias": torch.zeros(3)}, r"voice_head\.bias is \(3,\), this program wants \(2,\)"),
        ({**state, "novelty": torch.zeros(1)}, r"novelty is \(1,\), this program wants nothing"),
    ):
        save_checkpoint(path, broken, kind="speech", config=OWN)
        with pytest.raises(CheckpointError, match=complaint):
            load_speech(path)
    save_checkpoint(path, state, kind="speech", config=SpeechConfig(encoder=OWN.encoder, num_phonemes=7))
    with pytest.raises(CheckpointError, match="7 phonemes"):
        load_speech(path)


def test_motion_runs_on_the_encoder_it_was_trained_with_or_not_at_all(tmp_path: Path, whisper: Path) -> None:
    _, speech_hash = new_heads(tmp_path, whisper)
    write_motion(tmp_path, speech_hash)
    stack = load_motion_stack(tmp_path, whisper=whisper)
    assert stack.speech.model.config.whisper_sha256
    other = write_whisper(tmp_path / "other.pt", SMALL, random_state(SMALL, torch.bfloat16))
    new_heads(tmp_path, other)  # retrained on another Whisper, and the motion was not
    with pytest.raises(
        CheckpointBindingError, match=r"motion\.safetensors: .*speech encoder .*nerf-lipsync train motion"
    ):
        load_motion_stack(tmp_path, whisper=other)
