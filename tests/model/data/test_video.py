"""Reading good videos: the 25 fps grid, sound on the picture's clock, upright pictures of limited size, notes."""

from __future__ import annotations

import pickle
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from model.data.clip_types import ClipSource, Note
from model.data.video import SAMPLES_PER_FRAME, ReadSettings, VideoClip, probe_video, read_video
from model.errors import ConfigError
from tests.support.video_files import Picture, Sound, click_times, even_times, number_of, write_sound, write_video

SILENT = ReadSettings(need_audio=False)


def shown(clip: VideoClip) -> list[int]:
    return [number_of(frame) for frame in clip.frames()]


def nearest(times_s: list[float], count: int) -> list[int]:
    """The picture nearest to each k / 25 s, the earlier of two: written as differently as possible from the code."""
    exact = [Fraction(t).limit_denominator(90_000) for t in times_s]
    return [min(range(len(exact)), key=lambda j: (abs(exact[j] - Fraction(k, 25)), j)) for k in range(count)]


@pytest.mark.parametrize(
    ("fps", "pictures", "frames"),
    [(25, 50, 50), (30, 60, 50), (50, 100, 50), (60, 120, 50), (Fraction(24000, 1001), 48, 50), (12, 24, 50)],
)
def test_each_frame_is_the_picture_nearest_in_time(
    tmp_path: Path, fps: float | Fraction, pictures: int, frames: int
) -> None:
    times = even_times(pictures, fps)
    clip = read_video(write_video(tmp_path / "clip.mp4", times), SILENT)
    assert clip.frame_count == frames
    assert shown(clip) == [number % 52 for number in nearest(times, frames)]
    noted = [note for note in clip.notes if note.startswith(Note.FRAME_RATE)]
    assert noted == ([] if fps == 25 else [f"{Note.FRAME_RATE} ({float(fps):.4g} frames per second)"])


def test_variable_frame_rate(tmp_path: Path) -> None:
    gaps = np.random.default_rng(3).choice([1 / 60, 1 / 30, 1 / 15], 50)
    times = [0.0, *np.cumsum(gaps).tolist()]
    clip = read_video(write_video(tmp_path / "phone.mp4", times), SILENT)
    assert shown(clip) == nearest(times, clip.frame_count)
    assert clip.frame_count == round((times[-1] + np.median(np.diff(times))) * 25)
    assert clip.info.is_variable_rate
    assert any(note.startswith(Note.VARIABLE_FRAME_RATE) and "15 to 60" in note for note in clip.notes), clip.notes


def test_even_times_in_whole_milliseconds_are_no_variable_rate(tmp_path: Path) -> None:
    clip = read_video(write_video(tmp_path / "clip.mkv", even_times(90, 60)), SILENT)
    assert [note.split(" (")[0] for note in clip.notes] == [Note.FRAME_RATE]


@pytest.mark.parametrize(("start_s", "channels"), [(0.0, "mono"), (0.0, "stereo"), (0.4, "mono"), (-0.3, "mono")])
def test_clicks_stay_where_the_picture_has_them(tmp_path: Path, start_s: float, channels: str) -> None:
    first_s = max(0.0, -start_s)  # a picture that starts behind the sound
    sound = Sound(start_s=start_s + first_s, duration_s=2.4, clicks_s=(0.6 + first_s, 1.2 + first_s), channels=channels)
    times = [first_s + t for t in even_times(50, 25)]
    clip = read_video(write_video(tmp_path / "clip.mp4", times, sound=sound))
    assert clip.audio.dtype == np.int16 and clip.audio.shape == (50 * SAMPLES_PER_FRAME,)
    # AAC rounds the edges of a click; MP4 counts delays in whole milliseconds
    np.testing.assert_allclose(click_times(clip.audio), [0.6, 1.2], atol=1.2e-3)
    assert 12_000 < np.abs(clip.audio.astype(int)).max() < 21_000  # of 16,000: mixed to mono without gain
    assert any(note.startswith(Note.AUDIO_LATE) for note in clip.notes) == (start_s > 0)
    assert any("before the first picture" in note for note in clip.notes) == (start_s < 0)


def test_exact_sample_of_late_uncompressed_sound(tmp_path: Path) -> None:
    sound = Sound(start_s=0.25, duration_s=1.75, clicks_s=(0.5, 1.5), codec="pcm_s16le")
    clip = read_video(write_video(tmp_path / "clip.mov", even_times(50, 25), sound=sound))
    np.testing.assert_allclose(click_times(clip.audio), [0.5, 1.5], atol=1.5 / 16_000)
    assert not clip.audio[: int(0.24 * 16_000)].any()


def test_sound_longer_and_shorter_than_the_picture(tmp_path: Path) -> None:
    times = even_times(50, 25)
    longer = read_video(write_video(tmp_path / "long.mp4", times, sound=Sound(duration_s=3.5)))
    shorter = read_video(write_video(tmp_path / "short.mp4", times, sound=Sound(duration_s=1.2)))
    assert len(longer.audio) == len(shorter.audio) == 50 * SAMPLES_PER_FRAME
    assert [n.split(" (")[0] for n in longer.notes] == [Note.AUDIO_LONGER]
    assert [n.split(" (")[0] for n in shorter.notes] == [Note.AUDIO_SHORTER]
    assert "1.2" in shorter.notes[0] and "of 2.00 s" in shorter.notes[0]
    assert not shorter.audio[int(1.25 * 16_000) :].any()


def test_sound_in_a_file_of_its_own_is_used_only_by_a_silent_video(tmp_path: Path) -> None:
    times = even_times(50, 25)
    apart = write_sound(tmp_path / "apart.m4a", Sound(duration_s=2.0, clicks_s=(0.7,)))
    silent = write_video(tmp_path / "silent.mp4", times)
    clip = read_video(ClipSource(key="a", video=silent, audio=apart))
    np.testing.assert_allclose(click_times(clip.audio), [0.7], atol=1.2e-3)
    spoken = write_video(tmp_path / "spoken.mp4", times, sound=Sound(duration_s=2.0, clicks_s=(1.1,)))
    clip = read_video(ClipSource(key="b", video=spoken, audio=apart))
    np.testing.assert_allclose(click_times(clip.audio), [1.1], atol=1.2e-3)


def test_silence_where_no_sound_is_needed(tmp_path: Path) -> None:
    clip = read_video(write_video(tmp_path / "clip.mp4", even_times(30, 25)), SILENT)
    assert clip.audio.shape == (30 * SAMPLES_PER_FRAME,) and not clip.audio.any()
    assert clip.notes == ()


@pytest.mark.parametrize("turn_deg", [0, 90, 180, 270])
@pytest.mark.parametrize("mirrored", [False, True])
def test_turned_and_mirrored_pictures_come_out_upright(tmp_path: Path, turn_deg: int, mirrored: bool) -> None:
    # stored: a marker in the top left corner; the display matrix turns it counter-clockwise, then mirrors
    picture = Picture(width=96, height=64, turn_deg=turn_deg, mirrored=mirrored)
    clip = read_video(write_video(tmp_path / "clip.mp4", even_times(25, 25), picture=picture), SILENT)
    stored = np.zeros((64, 96))
    stored[:16, :24] = 1.0
    wanted = np.rot90(stored, turn_deg // 90)
    wanted = wanted[:, ::-1] if mirrored else wanted
    first = next(clip.frames())
    assert first.shape == (*wanted.shape, 3) == (clip.height, clip.width, 3) and first.flags.c_contiguous
    np.testing.assert_array_equal(first[4::8, 4::8, 0] > 200, wanted[4::8, 4::8] > 0.5)
    turned = turn_deg != 0 or mirrored
    assert [n.split(" (")[0] for n in clip.notes] == ([Note.ROTATED] if turned else [])


def test_large_pictures_are_scaled_down_and_odd_sizes_kept(tmp_path: Path) -> None:
    large = Picture(width=1280, height=720, turn_deg=90)
    clip = read_video(
        write_video(tmp_path / "large.mp4", even_times(25, 25), picture=large),
        ReadSettings(need_audio=False, max_side_px=320),
    )
    assert (clip.width, clip.height) == (180, 320)
    assert f"{Note.RESIZED} (1280 x 720 to 180 x 320)" in clip.notes
    odd = Picture(width=67, height=49, codec="ffv1", pix_fmt="bgr0", options=())
    clip = read_video(write_video(tmp_path / "odd.mkv", even_times(25, 25), picture=odd), SILENT)
    assert next(clip.frames()).shape == (49, 67, 3) and shown(clip) == list(range(25))


def test_pixels_that_are_not_square(tmp_path: Path) -> None:
    wide = Picture(width=96, height=64, aspect=Fraction(4, 3))
    clip = read_video(write_video(tmp_path / "wide.mp4", even_times(25, 25), picture=wide), SILENT)
    assert (clip.width, clip.height) == (96, 48)
    assert [n.split(" (")[0] for n in clip.notes] == [Note.RESIZED]


def test_palette_and_alpha(tmp_path: Path) -> None:
    gif = Picture(codec="gif", pix_fmt="rgb8", options=())
    clip = read_video(write_video(tmp_path / "clip.gif", even_times(30, 25), picture=gif), SILENT)
    assert clip.frame_count == 30
    levels = [float(frame[20:28, 28:36].mean()) for frame in clip.frames()]
    np.testing.assert_allclose(levels, [24 + 4 * k for k in range(30)], atol=24)  # 8 levels a colour
    assert levels[29] - levels[0] > 90
    alpha = Picture(codec="qtrle", pix_fmt="argb", options=())
    clip = read_video(write_video(tmp_path / "clip.mov", even_times(30, 25), picture=alpha), SILENT)
    assert shown(clip) == list(range(30))


def test_interlaced_pictures_are_noted(tmp_path: Path) -> None:
    options = (("qp", "4"), ("flags", "+ildct+ilme"), ("x264-params", "tff=1"))
    clip = read_video(write_video(tmp_path / "tv.mp4", even_times(30, 25), picture=Picture(options=options)), SILENT)
    assert clip.notes == (str(Note.INTERLACED),)


def test_a_long_clip_is_cut(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", even_times(100, 25), sound=Sound(duration_s=4))
    clip = read_video(path, ReadSettings(max_seconds=2.0))
    assert clip.frame_count == 50 and len(clip.audio) == 50 * SAMPLES_PER_FRAME
    assert clip.notes == (f"{Note.CUT_SHORT} (2 of 4 s)",)
    assert shown(clip) == list(range(50))


@pytest.mark.parametrize("fps", [25, 30, 50, 60])
def test_a_clip_just_as_long_as_is_taken_is_not_cut(tmp_path: Path, fps: int) -> None:
    """It was said to be cut, and neither its sound nor its declared length was looked at."""
    path = write_video(tmp_path / "clip.mp4", even_times(2 * fps, fps))
    clip = read_video(path, ReadSettings(need_audio=False, max_seconds=2.0))
    assert clip.frame_count == 50
    assert [note for note in clip.notes if note.startswith(Note.CUT_SHORT)] == []
    assert clip.info.frames == 2 * fps


def test_damage_in_the_middle_is_concealed_and_counted(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", even_times(75, 25), picture=Picture(width=160, height=120), sound=Sound())
    whole = path.read_bytes()
    start = whole.index(b"mdat") + 4
    middle = start + (len(whole) - start) // 2
    path.write_bytes(whole[:middle] + b"\xff" * 600 + whole[middle + 600 :])
    clip = read_video(path)
    assert any(note.startswith(Note.DAMAGED_FRAMES) for note in clip.notes), clip.notes
    assert clip.frame_count == 75
    numbers = shown(clip)
    assert numbers[:20] == list(range(20)) and numbers[72:] == [72 - 52, 73 - 52, 74 - 52]


def test_frames_again_in_part_and_without_being_kept(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", even_times(60, 30))
    kept = read_video(path, SILENT)
    lazy = read_video(path, ReadSettings(need_audio=False, keep_bytes=0))
    small = read_video(path, ReadSettings(need_audio=False, keep_bytes=64 * 48 * 3 * 10))
    assert len(kept.kept) == 50 and not lazy.kept and not small.kept
    assert lazy.frame_count == small.frame_count == 50
    for again in (lazy, lazy, small, pickle.loads(pickle.dumps(lazy))):  # noqa: S301  our own bytes
        np.testing.assert_array_equal(list(again.frames()), list(kept.frames()))
    for start, stop in ((0, 3), (17, 30), (48, None), (50, None)):
        np.testing.assert_array_equal(list(lazy.frames(start, stop)), list(kept.frames(start, stop)))


def test_probe_tells_what_a_file_is(tmp_path: Path) -> None:
    picture = Picture(width=96, height=64, turn_deg=-90)
    path = write_video(tmp_path / "clip.mp4", even_times(60, 30), picture=picture, sound=Sound(duration_s=2))
    info = probe_video(path)
    assert (info.codec, info.coded_width, info.coded_height, info.width, info.height) == ("h264", 96, 64, 64, 96)
    assert (info.rotation_deg, info.is_mirrored, info.bit_depth, info.transfer) == (90, False, 8, "sdr")
    assert info.frames == 60 and info.average_fps == pytest.approx(30, abs=0.01) and not info.is_variable_rate
    assert info.duration_s == pytest.approx(2.0, abs=0.04)
    assert (info.has_audio, info.audio_codec, info.audio_rate, info.audio_channels) == (True, "aac", 48_000, 1)


def test_limits_are_checked() -> None:
    for wrong in ({"max_side_px": 8}, {"min_seconds": 5.0, "max_seconds": 2.0}, {"decode_threads": 0}):
        with pytest.raises(ConfigError, match="got"):
            ReadSettings(**wrong)


def test_real_clips(data_folder: Path) -> None:
    for clip in (
        read_video(data_folder / "grid_s1/train/bbaf3s.mp4"),
        read_video(data_folder / "grid_others/brbk7n.mpg"),
    ):
        assert clip.frame_count == 75 and clip.audio.shape == (48_000,) and clip.notes == ()
        frames = list(clip.frames())
        assert frames[0].shape == (288, clip.width, 3)
        assert 40 < np.mean(frames[30]) < 220 and np.abs(clip.audio.astype(int)).max() > 1000
