"""Voice activity: our layers are the package's network, sessions are apart, packets do not matter."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from model.audio_file import read_audio
from model.speech.voice_activity import CHUNK_SAMPLES, VoiceActivity, VoiceActivityState, load_voice_activity

HOP = 1280


@pytest.fixture(scope="module")
def model() -> VoiceActivity:
    return load_voice_activity()


@pytest.fixture(scope="module")
def speech(data_folder: Path) -> np.ndarray:
    return read_audio(data_folder / "librispeech" / "jfk.wav")


def _heard(model: VoiceActivity, audio: np.ndarray, size: int = HOP) -> list[float]:
    state = VoiceActivityState()
    out = []
    for start in range(0, len(audio) - size + 1, size):
        model.advance([audio[start : start + size]], [state])
        out.append(state.probability)
    return out


@pytest.mark.filterwarnings("ignore:`torch.jit.load` is deprecated:DeprecationWarning")
def test_the_layers_are_those_of_the_package(model: VoiceActivity) -> None:
    """The package's TorchScript holds other weights of the same network: with its weights, ours must say the same."""
    spec = find_spec("silero_vad")
    assert spec is not None and spec.origin is not None
    script = torch.jit.load(str(Path(spec.origin).parent / "data" / "silero_vad.jit"))
    script.reset_states()
    stored = dict(script.named_parameters()) | dict(script.named_buffers())
    own = VoiceActivity()
    names = {"stft_conv.weight": "_model.stft.forward_basis_buffer"}
    names |= {f"conv{i + 1}.{p}": f"_model.encoder.{i}.reparam_conv.{p}" for i in range(4) for p in ("weight", "bias")}
    names |= {f"lstm_cell.{p}": f"_model.decoder.rnn.{p}" for p in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
    names |= {f"final_conv.{p}": f"_model.decoder.decoder.2.{p}" for p in ("weight", "bias")}
    own.load_state_dict({ours: stored[theirs] for ours, theirs in names.items()})
    t = np.arange(16_000) / 16_000
    sound = (0.2 * np.sin(2 * np.pi * 150 * t) * (1 + np.sin(2 * np.pi * 4 * t))).astype(np.float32)
    sound += np.random.default_rng(0).normal(0, 0.02, len(sound)).astype(np.float32)
    chunks = [sound[i : i + CHUNK_SAMPLES] for i in range(0, len(sound) - CHUNK_SAMPLES + 1, CHUNK_SAMPLES)]
    with torch.inference_mode():
        theirs = [float(script(torch.from_numpy(c), 16_000)) for c in chunks]
    np.testing.assert_allclose(_heard(own, sound, CHUNK_SAMPLES), theirs, atol=1e-4)


def test_it_hears_speech_and_neither_silence_nor_noise(model: VoiceActivity, speech: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    assert np.mean(np.array(_heard(model, speech)) > 0.5) > 0.6
    assert max(_heard(model, np.zeros(48_000, np.float32))) < 0.2
    assert max(_heard(model, rng.normal(0, 0.1, 48_000).astype(np.float32))) < 0.2


def test_packets_do_not_matter(model: VoiceActivity, speech: np.ndarray) -> None:
    audio = speech[: 40 * CHUNK_SAMPLES]
    whole, cut = VoiceActivityState(), VoiceActivityState()
    for start in range(0, len(audio), CHUNK_SAMPLES):
        model.advance([audio[start : start + CHUNK_SAMPLES]], [whole])
    for start in range(0, len(audio), 160):
        model.advance([audio[start : start + 160]], [cut])
    torch.testing.assert_close(whole.cell, cut.cell, rtol=0, atol=0)
    assert len(cut.waiting) == 0 and cut.probability == whole.probability


def test_sessions_of_a_batch_are_apart(model: VoiceActivity, speech: np.ndarray) -> None:
    alone, together, other = VoiceActivityState(), VoiceActivityState(), VoiceActivityState()
    other.waiting = np.zeros(300, np.float32)  # its chunks end elsewhere
    for start in range(0, 20 * HOP, HOP):
        part = speech[start : start + HOP]
        model.advance([part], [alone])
        model.advance([part, part[::-1]], [together, other])
    torch.testing.assert_close(alone.cell, together.cell, rtol=0, atol=1e-5)
    assert alone.probability == pytest.approx(together.probability, abs=1e-5)
