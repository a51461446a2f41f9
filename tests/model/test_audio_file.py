"""Sound files of every kind: the same tone from each, or one line that says what is wrong."""

from __future__ import annotations

import logging
import tracemalloc
import wave
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from model.audio_file import mix_weights, read_audio
from model.errors import InputError

TONE_HZ = 440.0


def tone(seconds: float = 0.5, rate_hz: int = 16_000, level: float = 0.5, hz: float = TONE_HZ) -> NDArray[np.float64]:
    return level * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate_hz)) / rate_hz)


def write(
    path: Path, channels: ArrayLike, *, rate_hz: int = 16_000, codec: str = "pcm_f32le", layout: str = "mono"
) -> Path:
    """Samples (channels, n) or (n,) in -1..1 as a file of any codec."""
    data = np.atleast_2d(np.asarray(channels, np.float64)).astype(np.float32)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate_hz, layout=layout)
        for start in range(0, data.shape[1], 1024):
            piece = data[:, start : start + 1024].T.reshape(1, -1)  # PyAV cannot fill eight separate planes
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(piece), format="flt", layout=layout)
            frame.sample_rate, frame.pts = rate_hz, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_wave(path: Path, data: NDArray[np.generic], *, rate_hz: int = 16_000, width: int = 2) -> Path:
    """A plain RIFF file by the standard library."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(width)
        file.setframerate(rate_hz)
        file.writeframes(data.tobytes())
    return path


def error_db(found: NDArray[np.float32], wanted: NDArray[np.float64]) -> float:
    """RMS of the difference without the edges, relative to the wanted sound; a few samples of length may differ."""
    assert abs(len(found) - len(wanted)) <= 2
    inner = slice(400, min(len(found), len(wanted)) - 400)
    return float(20 * np.log10(np.std(found[inner] - wanted[inner]) / np.std(wanted[inner]) + 1e-12))


@pytest.mark.parametrize(
    ("codec", "suffix", "most_db"),
    [
        ("pcm_u8", "wav", -35.0),
        ("pcm_s16le", "wav", -80.0),
        ("pcm_s24le", "wav", -120.0),
        ("pcm_s32le", "wav", -120.0),
        ("pcm_f32le", "wav", -120.0),
        ("pcm_f64le", "wav", -120.0),
        ("pcm_s16be", "aiff", -80.0),
        ("pcm_alaw", "wav", -30.0),
        ("flac", "flac", -80.0),
        ("libmp3lame", "mp3", -20.0),
        ("aac", "m4a", -20.0),
    ],
)
def test_every_way_to_store_samples_gives_the_same_sound(
    tmp_path: Path, codec: str, suffix: str, most_db: float
) -> None:
    found = read_audio(write(tmp_path / f"a.{suffix}", tone(), codec=codec))
    if suffix == "m4a":  # the last block is filled with silence
        found = found[: len(tone())]
    assert found.dtype == np.float32
    assert error_db(found, tone()) < most_db


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000, 192_000])
def test_every_rate_becomes_16_khz_without_shift(tmp_path: Path, rate_hz: int) -> None:
    found = read_audio(write(tmp_path / "a.wav", tone(0.5, rate_hz), rate_hz=rate_hz))
    assert error_db(found, tone(0.5)) < -70.0


def test_what_16_khz_cannot_carry_is_not_folded_back(tmp_path: Path) -> None:
    loud = {hz: read_audio(write(tmp_path / f"{hz}.wav", tone(0.5, 48_000, hz=hz), rate_hz=48_000)) for hz in
            (7000.0, 8400.0, 9000.0, 15_000.0)}  # fmt: skip
    level_db = {hz: float(20 * np.log10(np.std(x[800:-800]) / np.std(tone()))) for hz, x in loud.items()}
    assert level_db[7000.0] == pytest.approx(0.0, abs=0.1)
    assert max(level_db[8400.0], level_db[9000.0], level_db[15_000.0]) < -80.0


@pytest.mark.parametrize("layout", ["mono", "stereo", "2.1", "quad", "5.0", "5.1", "7.1"])
def test_the_same_sound_on_all_channels_is_that_sound(tmp_path: Path, layout: str) -> None:
    names = [c.name for c in av.AudioLayout(layout).channels]
    loud = tone(level=0.99)
    channels = np.stack([0.9 * np.ones_like(loud) if n.startswith("LFE") else loud for n in names])
    found = read_audio(write(tmp_path / "a.wav", channels, layout=layout))
    assert error_db(found, loud) < -100.0
    assert found.max() == pytest.approx(0.99, abs=1e-3)  # neither clipped nor scaled


def test_stereo_is_the_mean_of_its_channels(tmp_path: Path) -> None:
    left, right = tone(level=1.0), tone(level=0.8, hz=1000.0)
    found = read_audio(write(tmp_path / "a.wav", [left, right], layout="stereo"))
    assert error_db(found, (left + right) / 2) < -100.0


def test_weights_of_surround_sound() -> None:
    names = ("FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR")
    weights = dict(zip(names, mix_weights(names), strict=True))
    assert sum(weights.values()) == pytest.approx(1.0)
    assert weights["LFE"] == 0.0
    assert weights["FC"] == pytest.approx(2 * weights["SL"]) == pytest.approx(2**0.5 * weights["FL"])
    assert mix_weights(("LFE",)) == (1.0,)
    assert mix_weights(("FL", "FR")) == pytest.approx((0.5, 0.5))


def test_a_constant_offset_and_clipped_sound_are_left_as_they_are(tmp_path: Path) -> None:
    found = read_audio(write(tmp_path / "dc.wav", tone(level=0.2) + 0.3))
    assert found[400:-400].mean() == pytest.approx(0.3, abs=0.01)
    square = np.clip(tone() * 8, -1, 1)
    assert error_db(read_audio(write(tmp_path / "clipped.wav", square)), square) < -100.0


def test_sound_beyond_full_scale_is_scaled_not_clipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "model.audio_file")
    found = read_audio(write(tmp_path / "a.wav", tone(level=2.5)))
    assert error_db(found, tone(level=1.0)) < -60.0
    assert "peaks at 2.5" in caplog.text


def with_value(value: float) -> NDArray[np.float64]:
    samples = tone(1.0)
    samples[12_345] = value
    return samples


@pytest.mark.parametrize(
    ("value", "message"),
    [(np.nan, "NaN or infinite samples from 0.7"), (-np.inf, "NaN or infinite"), (-20_000.0, "up to 20000: scale")],
)
def test_floats_that_are_no_sound_are_refused(tmp_path: Path, value: float, message: str) -> None:
    path = write(tmp_path / "a.wav", with_value(value))
    with pytest.raises(InputError, match=message) as caught:
        read_audio(path)
    assert "\n" not in str(caught.value)


def test_one_sample_is_too_little(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"one\.wav holds 0\.06 ms of sound: give at least 10 ms"):
        read_audio(write_wave(tmp_path / "one.wav", np.zeros(1, np.int16)))
    assert len(read_audio(write_wave(tmp_path / "ten.wav", np.zeros(160, np.int16)))) == 160


def test_a_header_without_samples_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.wav .*(0\.00 ms|not a sound file)"):
        read_audio(write_wave(tmp_path / "none.wav", np.zeros(0, np.int16)))


@pytest.mark.parametrize("rate_hz", [4_000, 500_000])
def test_rates_that_carry_no_speech_are_refused(tmp_path: Path, rate_hz: int) -> None:
    path = write_wave(tmp_path / "a.wav", np.zeros(rate_hz, np.int16), rate_hz=rate_hz)
    with pytest.raises(InputError, match=f"has {rate_hz} samples a second: give sound of 8 to 384 kHz"):
        read_audio(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.wav", b"", "holds 0 bytes"),
        ("text.wav", b"words, not sound\n" * 50, "not a sound file but text"),
        ("picture.wav", b"\x89PNG\r\n\x1a\n" + b"\0" * 200, "PNG picture"),
        ("list.m3u8", b"#EXTM3U\n#EXTINF:1,\n/etc/hostname\n", "not a sound file"),
    ],
)
def test_what_is_no_sound_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_audio(tmp_path / name)
    assert name in str(caught.value) and "\n" not in str(caught.value)


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_audio(tmp_path / "missing.wav")
    with pytest.raises(InputError, match="is not a file"):
        read_audio(tmp_path)


def test_a_video_without_sound_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mute.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for i in range(5):
            frame = av.VideoFrame(64, 64, "yuv420p")
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(InputError, match="no sound track"):
        read_audio(path)


def test_of_a_file_that_breaks_off_the_beginning_is_read(tmp_path: Path) -> None:
    whole = write(tmp_path / "a.wav", tone(), codec="pcm_s16le")
    cut = tmp_path / "cut.wav"
    cut.write_bytes(whole.read_bytes()[:8_000])
    found = read_audio(cut)
    assert 3_900 < len(found) < 4_000
    np.testing.assert_array_equal(found[:3_800], read_audio(whole)[:3_800])
    broken = tmp_path / "cut.m4a"
    broken.write_bytes(write(tmp_path / "a.m4a", tone(), codec="aac").read_bytes()[:1500])
    with pytest.raises(InputError, match="breaks off"):
        read_audio(broken)


@pytest.mark.parametrize(("codec", "suffix", "message"), [("aac", "m4a", "damaged"), ("libopus", "ogg", "only 1.")])
def test_damage_is_left_out_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, codec: str, suffix: str, message: str
) -> None:
    path = write(tmp_path / f"a.{suffix}", tone(2.0, 48_000), rate_hz=48_000, codec=codec)
    assert len(read_audio(path)) >= 32_000
    assert not caplog.text
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 600] = np.random.default_rng(0).bytes(600)
    path.write_bytes(data)
    assert 16_000 < len(read_audio(path)) < 32_000
    assert message in caplog.text


def test_a_rate_for_playing_is_given_too(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", tone(0.5, 44_100), rate_hz=44_100)
    assert error_db(read_audio(path, rate_hz=48_000), tone(0.5, 48_000)) < -70.0


def test_memory_is_that_of_the_result(tmp_path: Path) -> None:
    """A minute of 192 kHz sound is 46 MB of floats; its 16 kHz mono 3.8 MB."""
    path = write_wave(tmp_path / "long.wav", np.zeros(60 * 192_000, np.int16), rate_hz=192_000)
    tracemalloc.start()
    samples = read_audio(path)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert abs(len(samples) - 60 * 16_000) <= 2
    assert peak_bytes < 3 * samples.nbytes
