"""`render` with the shipped models: lengths, rates, repeatability, silence, and files that are not speech."""

from __future__ import annotations

import json
import wave
from pathlib import Path

import av
import numpy as np
import pytest

from model.motion.space import load_motion_space
from model.video_writing import MP4, FileWriter
from stream_server.cli import main
from tests.support.made_speech import made_speech

pytestmark = pytest.mark.usefixtures("weights_once")
SIZE = "64"  # the path is the same at any size


def write_wav(path: Path, samples: np.ndarray, rate_hz: int, channels: int = 1) -> Path:
    data = (np.clip(samples, -1, 1) * 32767).astype(np.int16)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(np.repeat(data[:, None], channels, 1).tobytes())
    return path


def decode(path: Path) -> tuple[list[np.ndarray], float, float]:
    """Grey frames, and the lengths of both streams in seconds."""
    with av.open(str(path)) as container:
        frames = [f.to_ndarray(format="gray") for f in container.decode(video=0)]
    with av.open(str(path)) as container:
        samples = sum(f.samples for f in container.decode(audio=0))
        rate_hz = container.streams.audio[0].rate
        assert container.streams.video[0].codec.name == "h264" and container.streams.audio[0].codec.name == "aac"
        assert container.streams.video[0].average_rate == 25
        assert "synthetic" in container.metadata["comment"].lower()
    return frames, len(frames) / 25, samples / rate_hz


def render(audio: Path, out: Path, *extra: str) -> int:
    return main(["render", "--audio", str(audio), "--out", str(out), "--size", SIZE, "--threads", "1", *extra])


@pytest.mark.parametrize(
    ("seconds", "rate_hz", "channels"),
    [
        (0.3, 8000, 1),
        pytest.param(3.0, 16_000, 2, marks=pytest.mark.nightly),
        (1.0, 44_100, 2),
        pytest.param(1.0, 48_000, 1, marks=pytest.mark.nightly),
    ],
)
def test_video_is_as_long_as_its_sound(tmp_path: Path, seconds: float, rate_hz: int, channels: int) -> None:
    audio = write_wav(tmp_path / "a.wav", made_speech(seconds, rate_hz=rate_hz), rate_hz, channels)
    assert render(audio, tmp_path / "o.mp4") == 0
    frames, video_s, audio_s = decode(tmp_path / "o.mp4")
    assert frames[0].shape == (64, 64)
    assert abs(video_s - seconds) <= 0.04
    assert abs(audio_s - seconds) <= 0.06  # AAC pads to its own frame


@pytest.mark.nightly
def test_a_minute_stays_in_step(tmp_path: Path) -> None:
    audio = write_wav(tmp_path / "a.wav", made_speech(60.0), 16_000)
    assert render(audio, tmp_path / "o.mp4") == 0
    _, video_s, _ = decode(tmp_path / "o.mp4")
    assert abs(video_s - 60.0) <= 0.04


def test_equal_seeds_give_equal_frames_and_others_do_not(tmp_path: Path) -> None:
    audio = write_wav(tmp_path / "a.wav", made_speech(1.2), 16_000)
    made = []
    for name, seed in (("a", "5"), ("b", "5"), ("c", "6")):
        assert render(audio, tmp_path / f"{name}.mp4", "--seed", seed, "--temperature", "1") == 0
        made.append(np.stack(decode(tmp_path / f"{name}.mp4")[0]))
    assert np.array_equal(made[0], made[1])
    assert not np.array_equal(made[0], made[2])


def test_silence_keeps_the_mouth_shut_and_still_and_blinks(tmp_path: Path) -> None:
    audio = write_wav(tmp_path / "a.wav", np.zeros(16_000 * 8), 16_000)
    assert render(audio, tmp_path / "o.mp4", "--motion-out", str(tmp_path / "m.npz")) == 0
    with np.load(tmp_path / "m.npz") as data:
        motion = data["motion"]
    opening = load_motion_space().lip_opening(motion)
    assert np.abs(opening).max() < 0.01 and np.abs(np.diff(opening)).max() < 1e-3
    assert motion[:, 20].max() > 0.9 and np.median(motion[:, 20]) < 0.1  # a blink, and open otherwise


def test_steady_noise_does_not_move_the_mouth(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 0.03, 16_000 * 3)
    audio = write_wav(tmp_path / "a.wav", noise, 16_000)
    assert render(audio, tmp_path / "o.mp4", "--motion-out", str(tmp_path / "m.npz")) == 0
    with np.load(tmp_path / "m.npz") as data:
        opening = data["lip_opening"][:-5]  # where the sound is cut off it is no longer steady
    assert np.abs(opening).max() < 0.01


def test_speech_moves_the_mouth_and_the_picture(tmp_path: Path) -> None:
    audio = write_wav(tmp_path / "a.wav", made_speech(2.0), 16_000)
    assert render(audio, tmp_path / "o.mp4", "--motion-out", str(tmp_path / "m.npz")) == 0
    with np.load(tmp_path / "m.npz") as data:
        opening = data["lip_opening"]
        assert data["arkit"].shape == (50, 52)
    assert np.ptp(opening) > 0.03


def test_a_mood_is_asked_for_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    audio = write_wav(tmp_path / "a.wav", np.zeros(9600), 16_000)
    brows = {}
    for mood in ("neutral", "surprised"):
        extra = (
            "--mood",
            mood,
            "--mood-strength",
            "0.8",
            "--head-motion",
            "1",
            "--motion-out",
            str(tmp_path / "m.npz"),
        )
        assert render(audio, tmp_path / "o.mp4", *extra) == 0
        with np.load(tmp_path / "m.npz") as data:
            brows[mood] = data["motion"][-1, 16:20]
    assert (brows["surprised"] - brows["neutral"] > 0.4).all()
    assert render(audio, tmp_path / "o.mp4", "--mood", "bored") == 2
    assert "no mood 'bored'; use one of: neutral" in capsys.readouterr().err


def test_head_turns_when_asked(tmp_path: Path) -> None:
    audio = write_wav(tmp_path / "a.wav", np.zeros(4800), 16_000)
    (tmp_path / "poses.json").write_text(json.dumps([[0, 0, 0]] * 3 + [[15, 0, 0]] * 4))
    assert render(audio, tmp_path / "o.mp4", "--poses", str(tmp_path / "poses.json")) == 0
    frames = np.stack(decode(tmp_path / "o.mp4")[0]).astype(float)
    turned = np.abs(frames[-1] - frames[0]).mean()
    still = np.abs(frames[1] - frames[0]).mean()
    assert turned > 4 * still + 1.0


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.wav", None, "no such file"),
        ("empty.wav", b"", "holds 0 bytes"),
        ("text.wav", b"this is not sound at all, only words" * 20, "not a sound file but text"),
        ("header.wav", b"RIFF\x24\x00\x00\x00WAVEfmt \x10\x00\x00\x00", ""),
    ],
)
def test_what_is_not_speech_is_one_line_and_exit_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert render(tmp_path / name, tmp_path / "o.mp4") == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert len(errors) == 1 and message in errors[0] and name in errors[0]
    assert not (tmp_path / "o.mp4").exists() and not list(tmp_path.glob(".*part*"))


def test_a_rendering_that_fails_at_its_end_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: object, until: int) -> None:
        if until == 14_400:  # the last piece of sound
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("model.video_writing.FileWriter._write_sound", full)
    audio = write_wav(tmp_path / "a.wav", np.zeros(4800), 16_000)
    assert render(audio, tmp_path / "o.mp4") == 2
    assert "No space left" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.wav"]


@pytest.mark.parametrize(
    ("out", "extra", "said"),
    [
        ("folder", (), "is a folder; name a file"),
        ("none/o.mp4", (), "there is no folder"),
        ("none/o.mov", ("--transparent",), "there is no folder"),
        ("o.webm", (), "without it the video is an MP4"),
        ("a.wav", (), "is the sound itself"),
        ("o.mp4", ("--motion-out", "none/m.npz"), "there is no folder none"),
        ("o.mp4", ("--motion-out", "folder"), "is a folder; name a file"),
    ],
)
def test_what_cannot_be_written_is_said_before_anything_is_loaded(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    out: str,
    extra: tuple[str, ...],
    said: str,
) -> None:
    def load(*_given: object, **_options: object) -> None:
        raise AssertionError("it was to be refused first")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("model.render_video.AvatarPipeline.load", load)
    audio = write_wav(Path("a.wav"), np.zeros(4800), 16_000)
    before = audio.read_bytes()
    Path("folder").mkdir()
    assert render(audio, Path(out), *extra) == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert len(errors) == 1 and said in errors[0]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.wav", "folder"] and audio.read_bytes() == before


def test_bad_poses_and_odd_sizes_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    audio = write_wav(tmp_path / "a.wav", np.zeros(4800), 16_000)
    (tmp_path / "p.json").write_text("[[1, 2]]")
    assert render(audio, tmp_path / "o.mp4", "--poses", str(tmp_path / "p.json")) == 2
    assert "[yaw, pitch, roll]" in capsys.readouterr().err
    assert main(["render", "--audio", str(audio), "--out", str(tmp_path / "o.mp4"), "--size", "99"]) == 2
    assert "must be even, got 99" in capsys.readouterr().err


@pytest.mark.nightly
def test_every_rendering_carries_the_installations_mark_unless_it_is_turned_off(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    audio = write_wav(tmp_path / "a.wav", made_speech(1.0), 16_000)
    assert render(audio, tmp_path / "o.mp4", "--size", "192") == 0
    said = capsys.readouterr().out
    instance = int(said.split("invisible mark: instance ")[1].split(";")[0])
    assert "label: AI" in said and "Content Credentials: none, metadata only" in said
    assert main(["mark", "detect", str(tmp_path / "o.mp4"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["instance"], found["found"]) == (instance, True)

    assert render(audio, tmp_path / "p.mp4", "--size", "192", "--no-invisible-mark", "--no-visible-mark") == 0
    assert "label: none; invisible mark: none" in capsys.readouterr().out
    assert main(["mark", "detect", str(tmp_path / "p.mp4")]) == 1


def test_marks_that_contradict_each_other_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    audio = write_wav(tmp_path / "a.wav", made_speech(0.3), 16_000)
    assert render(audio, tmp_path / "o.mp4", "--instance-id", "5", "--no-invisible-mark") == 2
    assert "exclude each other" in capsys.readouterr().err
    assert render(audio, tmp_path / "o.mp4", "--sign-cert", str(audio)) == 2
    assert "both --sign-cert and --sign-key" in capsys.readouterr().err
    assert render(audio, tmp_path / "o.mp4", "--instance-id", "16777216") == 2
    assert "0..16777215" in capsys.readouterr().err


def test_a_name_with_a_colon_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg took what stands before it for a protocol, and said that there is none of that name."""
    monkeypatch.chdir(tmp_path)
    with FileWriter(Path("take:1.mp4"), 128, np.zeros(1920, np.float32), MP4) as writer:
        writer.write(np.full((192, 128), 128, np.uint8))
    assert Path("take:1.mp4").stat().st_size
