"""Made-up sounds: length, level, repeatability, and the traits that make each kind what it is."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import find_peaks

from model.data import music, noise_events
from model.data.noises import NOISE_KINDS, active_rms, babble, mix, random_noise
from model.errors import DataError, InputError

RATE = 16_000

needs_player = pytest.mark.skipif(
    shutil.which("fluidsynth") is None or not music.SOUND_FONT.is_file(),
    reason="apt install fluidsynth fluid-soundfont-gm",
)


def rms(audio: NDArray[np.floating]) -> float:
    return float(np.sqrt(np.mean(np.square(audio, dtype=np.float64))))


def centroid_hz(audio: NDArray[np.floating]) -> float:
    power = np.abs(np.fft.rfft(audio)) ** 2
    return float((power * np.fft.rfftfreq(len(audio), 1 / RATE)).sum() / power.sum())


def blocks_db(audio: NDArray[np.floating], block: int = 320) -> NDArray[np.float64]:
    cut = audio[: len(audio) // block * block].astype(np.float64).reshape(-1, block)
    return 10 * np.log10(np.mean(cut**2, axis=1) + 1e-14)


@pytest.mark.parametrize("kind", NOISE_KINDS)
def test_every_kind_has_its_length_level_and_seed(kind: str) -> None:
    for seed, seconds in enumerate((3.0, 2.3456)):
        made = random_noise(kind, seconds, np.random.default_rng(seed))
        assert made.shape == (round(seconds * RATE),) and made.dtype == np.float32
        assert np.isfinite(made).all() and np.abs(made).max() < 1
        assert rms(made) <= 10 ** (-15 / 20) * 1.2
        np.testing.assert_array_equal(made, random_noise(kind, seconds, np.random.default_rng(seed)))
        assert not np.array_equal(made, random_noise(kind, seconds, np.random.default_rng(seed + 100)))
    assert rms(random_noise(kind, 3.0, np.random.default_rng(0))) > 1e-4
    assert random_noise(kind, 1 / RATE, np.random.default_rng(0)).shape == (1,)


@pytest.mark.parametrize("kind", ["coloured", "fan", "hum", "room", "rain"])
def test_steady_kinds_are_steady_and_as_loud_as_drawn(kind: str) -> None:
    levels = [20 * np.log10(rms(random_noise(kind, 1.0, np.random.default_rng(seed)))) for seed in range(12)]
    assert -56 < min(levels) < -40 and -30 < max(levels) < -14
    spread = np.percentile(blocks_db(random_noise(kind, 4.0, np.random.default_rng(1)), 3200), [10, 90])
    assert spread[1] - spread[0] < 12


@pytest.mark.parametrize("kind", ["keyboard", "taps", "clatter", "door", "breath"])
def test_events_stand_out_from_pauses(kind: str) -> None:
    for seed in range(4):
        loudness = blocks_db(random_noise(kind, 5.0, np.random.default_rng(seed)))
        assert loudness.max() - np.percentile(loudness, 15) > 15


def test_keys_are_short_clicks_with_the_centroids_of_recorded_ones() -> None:
    """171 recorded keys: nine tenths of the presses lie above 1.5 kHz, nine tenths of the releases below 3.5 kHz."""
    rng = np.random.default_rng(0)
    made = noise_events.keyboard(60 * RATE, rng)
    envelope = np.sqrt(np.convolve(made**2, np.ones(32) / 32, "same"))
    strokes, _ = find_peaks(envelope, height=0.15 * envelope.max(), distance=RATE // 20)
    assert 60 < len(strokes) < 1200  # presses and releases in a minute
    gaps_s = np.diff(strokes) / RATE
    assert gaps_s.std() / gaps_s.mean() > 0.4  # not a metronome
    centroids = [centroid_hz(made[max(0, s - 80) : s + 400]) for s in strokes]
    assert 1200 < np.median(centroids) < 3600


def test_breath_is_noise_without_pitch_that_swells_slowly() -> None:
    made = noise_events.breath(5 * RATE, np.random.default_rng(2))
    loudest = int(np.convolve(made**2, np.ones(4000), "valid").argmax())
    part = made[loudest : loudest + 4000]
    lags = np.correlate(part, part, "full")[len(part) - 1 :]
    assert lags[RATE // 400 : RATE // 70].max() < 0.35 * lags[0]
    loudness = blocks_db(made)
    assert 0.2 < (loudness > loudness.max() - 20).mean() < 0.95


def test_colours_differ_in_treble() -> None:
    centroids = [centroid_hz(random_noise("coloured", 1.0, np.random.default_rng(seed))) for seed in range(20)]
    assert min(centroids) < 800 and max(centroids) > 3000


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 10.0, 30.0])
def test_the_mix_has_the_ratio_that_was_asked_for(snr_db: float) -> None:
    rng = np.random.default_rng(0)
    speech = (0.1 * rng.normal(size=2 * RATE)).astype(np.float32)
    speech[:RATE] = 0.0  # a pause must not count
    noise = (0.01 * rng.normal(size=2 * RATE)).astype(np.float32)
    mixed = mix(speech, noise, snr_db)
    assert mixed.shape == speech.shape and np.abs(mixed).max() <= 1
    found_noise = rms(mixed[:RATE])
    found_speech = np.sqrt(rms(mixed[RATE:]) ** 2 - found_noise**2)
    assert 20 * np.log10(found_speech / found_noise) == pytest.approx(snr_db, abs=0.3)


def test_a_loud_mix_is_turned_down_whole() -> None:
    speech = np.sin(np.arange(RATE) / 5).astype(np.float32)
    mixed = mix(speech, np.cos(np.arange(RATE) / 3).astype(np.float32), 0.0)
    assert np.abs(mixed).max() == pytest.approx(0.99, abs=1e-3)
    assert np.mean(np.abs(mixed) > 0.98) < 0.05  # not clipped


def test_silence_in_a_mix_leaves_the_other_alone() -> None:
    sound, silence = (0.1 * np.ones(RATE)).astype(np.float32), np.zeros(RATE, np.float32)
    np.testing.assert_array_equal(mix(sound, silence, 5.0), sound)
    np.testing.assert_array_equal(mix(silence, sound, 5.0), sound)
    with pytest.raises(InputError, match="equally long"):
        mix(sound, silence[:-1], 0.0)


def test_active_level_ignores_pauses() -> None:
    talk = (0.2 * np.random.default_rng(0).normal(size=RATE)).astype(np.float32)
    padded = np.concatenate([np.zeros(3 * RATE, np.float32), talk])
    assert active_rms(padded) == pytest.approx(rms(talk), rel=0.01)
    assert active_rms(np.zeros(0, np.float32)) == 0


def test_babble_is_steadier_than_one_talker() -> None:
    rng = np.random.default_rng(0)
    time = np.arange(RATE) / RATE
    voices = [
        (rng.normal(size=RATE) * (np.sin(2 * np.pi * rate * time + rate) > 0)).astype(np.float32) * 0.1
        for rate in (1.0, 1.7, 2.3, 3.1, 4.0)
    ]
    made = babble(voices, 3.0, np.random.default_rng(1))
    assert made.shape == (3 * RATE,) and np.abs(made).max() < 1
    assert 20 * np.log10(rms(made)) == pytest.approx(-26, abs=0.5)
    assert np.std(blocks_db(made, 1600)) < 0.5 * np.std(blocks_db(voices[1], 1600))
    np.testing.assert_array_equal(made, babble(voices, 3.0, np.random.default_rng(1)))


def test_unusable_requests_are_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match=r"'whale'.*keyboard"):
        random_noise("whale", 1.0, rng)
    with pytest.raises(InputError, match="at least one sample"):
        random_noise("rain", 0.0, rng)
    with pytest.raises(InputError, match="none with sound"):
        babble([np.zeros(100, np.float32)], 1.0, rng)
    with pytest.raises(InputError, match="longer than 0 s"):
        music.compose(0.0, rng)


def test_scores_are_in_key_and_of_their_length() -> None:
    for seed in range(20):
        piece = music.compose(4.0, np.random.default_rng(seed))
        assert piece == music.compose(4.0, np.random.default_rng(seed))
        tuned = [note for note in piece.notes if note.channel != 9]
        assert piece.notes and len({note.key % 12 for note in tuned}) <= 7
        assert all(0 <= note.key <= 127 and 1 <= note.velocity <= 127 for note in piece.notes)
        assert all(0 <= program <= 127 for _, program in piece.programs)
        assert min(note.start for note in piece.notes) * 60 / piece.beats_per_minute < 4.0


@needs_player
def test_music_is_played_piece_by_piece() -> None:
    pytest.importorskip("mido")
    single = music.Piece(
        beats_per_minute=120.0,
        programs=((0, 73),),  # flute
        notes=(music.Note(channel=0, key=69, velocity=100, start=1.0, length=1.0),),
        seconds=1.5,
    )
    random = music.compose(2.0, np.random.default_rng(4))
    first, second, third = music.render_pieces([single, random, single], np.random.default_rng(0))
    assert len(first) == 1.5 * RATE and len(second) == 2 * RATE
    assert rms(second) > 10 ** (-41 / 20) and np.abs(second).max() < 1
    note = first[int(0.6 * RATE) : int(0.9 * RATE)].astype(np.float64)
    lags = np.correlate(note, note, "full")[len(note) - 1 :]
    assert RATE / (20 + int(lags[20:100].argmax())) == pytest.approx(440, rel=0.03)
    assert rms(first[: int(0.45 * RATE)]) < 0.01 * rms(note)  # silent until its beat
    assert np.corrcoef(np.abs(first), np.abs(third))[0, 1] > 0.8  # the piece between did not shift it


def test_without_a_player_the_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(DataError, match="apt install fluidsynth fluid-soundfont-gm"):
        music.render_music(1.0, np.random.default_rng(0))
