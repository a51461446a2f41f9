"""Speech features of a stream: no bit depends on packets, the future, the neighbours, or what a reset forgot."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from model.errors import InputError
from model.speech.log_mel import HOP_SAMPLES
from model.speech.speech_model import FEATURE_SIZE, SpeechConfig, SpeechModel
from model.speech.speech_stream import FRAME_SAMPLES, SpeechStream
from model.speech.stream import SpeechFeatures, SpeechState
from model.speech.whisper_encoder import EncoderConfig, Precision

HOP_FRAMES = 2
LOOKAHEAD_FRAMES = 2
SLOTS = 8


def make_features(num_mels: int = 80, precision: Precision = "fp32") -> SpeechFeatures:
    torch.manual_seed(0)
    encoder = EncoderConfig(num_mels=num_mels, width=32, num_heads=2, num_layers=2)
    model = SpeechModel(SpeechConfig(encoder=encoder, patch_channels=8))
    model.encoder.set_precision(precision)
    return SpeechFeatures(model, hop_frames=HOP_FRAMES, lookahead_frames=LOOKAHEAD_FRAMES)


FEATURES = make_features()


def sound(seconds: float, seed: int = 0) -> np.ndarray:
    """Noise whose loudness wanders, so that the running maximum moves."""
    rng = np.random.default_rng(seed)
    count = round(seconds * 16_000)
    return (rng.normal(0, 0.1, count) * (1 + np.sin(np.arange(count) / 3000 + seed))).astype(np.float32)


def streamed(audio: np.ndarray, packet: int, features: SpeechFeatures = FEATURES) -> Tensor:
    stream = SpeechStream(features)
    parts = [stream.push(audio[i : i + packet]) for i in range(0, len(audio), packet)]
    return torch.cat([*parts, stream.flush()])


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("num_mels", [80, 128])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_packets_of_any_size_give_the_bits_of_the_whole(num_mels: int, precision: Precision) -> None:
    features = make_features(num_mels, precision)
    audio = sound(1.3)
    whole = streamed(audio, len(audio), features)
    assert whole.std(0).max() > 0.01  # it says something
    for packet in (1, 160, 641, 5000):
        assert torch.equal(streamed(audio, packet, features), whole), packet


@pytest.mark.parametrize("num_samples", [1, 639, 640, 641, 1280, 1281, 2560, 2561, 9000])
def test_every_sample_belongs_to_a_frame(num_samples: int) -> None:
    stream = SpeechStream(FEATURES)
    pushed = stream.push(sound(1.0)[:num_samples])
    heard_frames = num_samples // FEATURES.hop_samples * HOP_FRAMES
    assert len(pushed) == max(0, heard_frames - LOOKAHEAD_FRAMES)
    assert len(pushed) + len(stream.flush()) == -(-num_samples // FRAME_SAMPLES)
    assert stream.flush().shape == (0, FEATURE_SIZE)


def test_a_stream_without_sound_has_no_frames() -> None:
    stream = SpeechStream(FEATURES)
    assert stream.push(np.zeros(0, np.float32)).shape == (0, FEATURE_SIZE)
    assert stream.flush().shape == (0, FEATURE_SIZE)


def test_frame_0_hears_the_first_samples() -> None:
    burst = np.zeros(16_000, np.float32)
    burst[: HOP_SAMPLES * 2] = sound(1.0)[: HOP_SAMPLES * 2] * 5
    energy = streamed(burst, 5000)[:, 172]
    assert energy.argmax() == 0


def test_sound_beyond_the_look_ahead_changes_no_committed_frame() -> None:
    audio, other = sound(1.5), sound(1.5, seed=9) * 3
    heard = 10 * FEATURES.hop_samples
    stream = SpeechStream(FEATURES)
    committed = stream.push(audio[:heard])
    for future in (audio, other, np.zeros_like(audio), np.full_like(audio, 1.0)):
        changed = np.concatenate([audio[:heard], future[heard:]])
        assert torch.equal(streamed(changed, 641)[: len(committed)], committed)
    # and the last sample of the look-ahead is heard, so that the test above can fail
    nearer = audio.copy()
    nearer[heard - FEATURES.hop_samples :] = 0.0
    assert not torch.equal(SpeechStream(FEATURES).push(nearer[:heard])[-1], committed[-1])


def test_reset_is_a_new_stream() -> None:
    stream = SpeechStream(FEATURES)
    stream.push(sound(1.0, seed=5) * 10)
    stream.reset()
    assert stream.position_samples == 0
    again = torch.cat([stream.push(sound(0.7)), stream.flush()])
    assert torch.equal(again, streamed(sound(0.7), 5000))
    stream.reset()
    assert torch.equal(torch.cat([stream.push(sound(0.7)), stream.flush()]), again)


BAD = {
    "nan": (np.full(2000, np.nan, np.float32), "NaN or infinity .2000 of 2000"),
    "inf": (np.append(sound(0.2), np.float32(-np.inf)), "NaN or infinity .1 of 3201"),
    "unscaled": (sound(0.2) * 32768, "scale it to -1..1"),
    "integers": (np.zeros(100, np.int16), "int16"),
    "stereo": (np.zeros((2, 100), np.float32), "2, 100"),
}


@pytest.mark.parametrize("kind", BAD)
def test_refused_audio_leaves_the_stream_as_it_was(kind: str) -> None:
    audio = sound(1.0)
    packet, message = BAD[kind]
    stream = SpeechStream(FEATURES)
    parts = [stream.push(audio[:7000])]
    with pytest.raises(InputError, match=message):
        stream.push(packet)
    assert stream.position_samples == 7000
    parts += [stream.push(audio[7000:]), stream.flush()]
    assert torch.equal(torch.cat(parts), streamed(audio, 160))


def test_after_the_end_no_more_audio_is_taken() -> None:
    stream = SpeechStream(FEATURES)
    stream.push(sound(0.1))
    stream.flush()
    with pytest.raises(InputError, match="1600 samples"):
        stream.push(sound(0.1))


def test_a_hop_of_another_length_is_refused() -> None:
    state = FEATURES.new_state()
    with pytest.raises(InputError, match=r"1280.*got \(160,\)"):
        FEATURES.advance(np.zeros(160, np.float32), state)
    np.testing.assert_array_equal(state.columns, FEATURES.new_state().columns)


def states_after(hops: int, count: int) -> list[SpeechState]:
    states = [FEATURES.new_state() for _ in range(count)]
    for row, state in enumerate(states):
        audio = sound(1.0, seed=row) * (0.1 + row)
        for hop in range(hops):
            FEATURES.advance(audio[hop * 1280 : (hop + 1) * 1280], state)
    return states


@pytest.mark.parametrize("sessions", [1, 3, 8])
def test_who_shares_the_batch_does_not_matter(sessions: int) -> None:
    states = states_after(9, sessions)
    together = FEATURES.features(states)
    alone = torch.cat([FEATURES.features([s]) for s in states])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    assert (together[0] - together[-1]).abs().max() > 1e-3 or sessions == 1


def test_in_slots_of_a_fixed_number_the_bits_are_the_same_for_any_company() -> None:
    states, idle = states_after(9, SLOTS), FEATURES.new_state()
    full = FEATURES.features(states)
    for row, state in enumerate(states):
        company = [idle] * SLOTS
        company[row] = state
        assert torch.equal(FEATURES.features(company)[row], full[row])


def test_a_poisoned_neighbour_changes_no_bit() -> None:
    states = states_after(9, 3)
    clean = FEATURES.features(states)
    states[1].columns = np.full_like(states[1].columns, np.nan)
    found = FEATURES.features(states)
    assert found[1].isnan().any()
    assert torch.equal(found[0], clean[0])
    assert torch.equal(found[2], clean[2])
