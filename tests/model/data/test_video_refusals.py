"""Videos that cannot be used: each is refused with its problem and one line that names the value."""

from __future__ import annotations

import os
import pickle
import zipfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from model.data.clip_types import ClipError, ClipSource, Problem
from model.data.video import ReadSettings, probe_video, read_video
from tests.support.video_files import Picture, Sound, even_times, write_sound, write_video

SILENT = ReadSettings(need_audio=False)


def refuse(path: Path | ClipSource, problem: Problem, *words: str, settings: ReadSettings | None = None) -> None:
    with pytest.raises(ClipError) as caught:
        read_video(path, settings or ReadSettings())
    text = str(caught.value)
    assert caught.value.problem is problem, text
    assert "\n" not in text and all(word in text for word in words), text
    assert str(pickle.loads(pickle.dumps(caught.value))) == text  # noqa: S301  our own bytes


def test_missing_empty_and_not_a_file(tmp_path: Path) -> None:
    refuse(tmp_path / "none.mp4", Problem.MISSING_FILE, "none.mp4", "check the path")
    (tmp_path / "empty.mp4").touch()
    refuse(tmp_path / "empty.mp4", Problem.ZERO_BYTES, "0 bytes")
    refuse(tmp_path, Problem.NOT_A_VIDEO, "is not a file")
    os.mkfifo(tmp_path / "pipe.mp4")
    refuse(tmp_path / "pipe.mp4", Problem.NOT_A_VIDEO, "is not a file")


def test_other_kinds_of_files(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("Grüße: kein Video.\n" * 300, encoding="utf-8")
    refuse(tmp_path / "text.mp4", Problem.NOT_A_VIDEO, "but text")
    with zipfile.ZipFile(tmp_path / "archive.mp4", "w") as archive:
        archive.writestr("a.txt", "x" * 2000)
    refuse(tmp_path / "archive.mp4", Problem.NOT_A_VIDEO, "a zip archive")
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(50_000))
    refuse(tmp_path / "noise.mp4", Problem.NOT_A_VIDEO, "unknown kind")
    image = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
    with av.open(str(tmp_path / "image.png"), "w", format="image2", options={"update": "1"}) as container:
        stream = container.add_stream("png")
        stream.width, stream.height, stream.pix_fmt = 32, 32, "rgb24"
        container.mux(stream.encode(image))
    refuse(tmp_path / "image.png", Problem.NOT_A_VIDEO, "a PNG picture")


@pytest.mark.parametrize(("name", "codec"), [("sound.m4a", "aac"), ("sound.mp4", "aac"), ("sound.wav", "pcm_s16le")])
def test_sound_alone(tmp_path: Path, name: str, codec: str) -> None:
    path = write_sound(tmp_path / name, Sound(codec=codec))
    refuse(path, Problem.NOT_A_VIDEO, "sound only")


def test_a_playlist_cannot_name_other_files(tmp_path: Path) -> None:
    write_video(tmp_path / "secret.mp4", even_times(30, 25))
    (tmp_path / "list.mp4").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nsecret.mp4\n#EXT-X-ENDLIST\n")
    refuse(tmp_path / "list.mp4", Problem.NOT_A_VIDEO, "but text")
    (tmp_path / "concat.mp4").write_text("ffconcat version 1.0\nfile secret.mp4\n")
    refuse(tmp_path / "concat.mp4", Problem.NOT_A_VIDEO, "but text")


def test_mp4_without_its_index(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", even_times(75, 25), sound=Sound())
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
    refuse(path, Problem.TRUNCATED, "index")


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.avi"])
def test_broken_off_at_three_fifths(tmp_path: Path, name: str) -> None:
    options = {"movflags": "faststart"} if name.endswith("mp4") else {}
    picture, sound = Picture(width=320, height=240), Sound(duration_s=4)
    if name.endswith("avi"):
        picture, sound = replace(picture, codec="mpeg4", options=()), replace(sound, codec="pcm_s16le")
    path = write_video(tmp_path / name, even_times(100, 25), picture=picture, sound=sound, muxer_options=options)
    assert read_video(path).frame_count == 100
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
    refuse(path, Problem.TRUNCATED, "breaks off after", "of 4.0 seconds")


def test_longer_sound_is_not_taken_for_a_broken_picture(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mkv", even_times(50, 25), sound=Sound(duration_s=5))
    assert read_video(path).frame_count == 50


def test_five_frames_per_second(tmp_path: Path) -> None:
    path = write_video(tmp_path / "slow.mp4", even_times(20, 5), sound=Sound())
    refuse(path, Problem.LOW_FRAME_RATE, "5.0 frames per second; lips need at least 10, better 25")


def test_too_short_and_just_long_enough(tmp_path: Path) -> None:
    sound = Sound(duration_s=1.2)
    refuse(write_video(tmp_path / "a.mp4", even_times(24, 25), sound=sound), Problem.TOO_SHORT, "0.96 seconds")
    refuse(write_video(tmp_path / "b.mp4", [0.0], sound=sound), Problem.TOO_SHORT, "seconds")
    assert read_video(write_video(tmp_path / "c.mp4", even_times(25, 25), sound=sound)).frame_count == 25
    assert read_video(write_video(tmp_path / "lrw.mp4", even_times(29, 25), sound=sound)).frame_count == 29


def test_no_sound(tmp_path: Path) -> None:
    silent = write_video(tmp_path / "clip.mp4", even_times(50, 25))
    refuse(silent, Problem.NO_AUDIO, "no sound track")
    missing = ClipSource(key="a", video=silent, audio=tmp_path / "none.m4a")
    refuse(missing, Problem.MISSING_FILE, "none.m4a")
    refuse(ClipSource(key="a", video=silent, audio=silent), Problem.NO_AUDIO, "no sound track")
    late = Sound(start_s=4.0, duration_s=1.0, clicks_s=())
    refuse(write_video(tmp_path / "late.mkv", even_times(50, 25), sound=late), Problem.NO_AUDIO, "within the picture")


def test_too_large_a_picture(tmp_path: Path) -> None:
    huge = Picture(width=8320, height=16, codec="ffv1", options=())
    refuse(write_video(tmp_path / "huge.mkv", even_times(25, 25), picture=huge), Problem.NOT_A_VIDEO, "8320 x 16")


def test_mostly_destroyed(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", even_times(75, 25), picture=Picture(width=160, height=120))
    whole = bytearray(path.read_bytes())
    start, end = whole.index(b"mdat") + 4000, whole.rindex(b"moov") - 4
    whole[start:end] = np.random.default_rng(1).bytes(end - start)
    path.write_bytes(whole)
    with pytest.raises(ClipError) as caught:
        read_video(path, SILENT)
    assert caught.value.problem in (Problem.NOT_A_VIDEO, Problem.TRUNCATED), str(caught.value)


def test_random_damage_neither_crashes_nor_escapes(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "clip.mp4", even_times(30, 25), sound=Sound(duration_s=1.2)).read_bytes()
    rng = np.random.default_rng(7)
    for trial in range(40):
        damaged = bytearray(whole)
        for place in rng.integers(0, len(whole), 12):
            damaged[place] = rng.integers(256)
        path = tmp_path / f"{trial}.mp4"
        path.write_bytes(damaged)
        with suppress(ClipError):
            clip = read_video(path, SILENT)
            assert len(clip.audio) == 640 * clip.frame_count == 640 * len(list(clip.frames()))


def test_probe_refuses_in_the_same_way(tmp_path: Path) -> None:
    with pytest.raises(ClipError, match="no such file"):
        probe_video(tmp_path / "none.mp4")
