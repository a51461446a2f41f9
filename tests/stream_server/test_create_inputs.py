"""What people give to `nerf-lipsync create`: videos, consent and folders that cannot be used, and odd ones that can."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from model.avatar import load_avatar
from model.data.clip_types import ClipSource, Note
from model.data.features import ClipFeatures, load_clips
from model.data.preparing.folder import PreparedFolder
from model.data.preparing.recipe import make_recipe, open_folder, ordered_sources
from model.data.video import ReadSettings
from model.errors import InputError
from stream_server.cli import EXIT_BAD_INPUT, main
from stream_server.commands import create
from tests.support.video_files import Picture, Sound, even_times, write_video

Frames = list[NDArray[np.uint8]]
STATEMENT = {
    "person": "A B",
    "given_by": "A B",
    "date": "2026-11-01",
    "statement": "I agree to an avatar for this test.",
}
CLIP_S = 2.2


@pytest.fixture
def consent(tmp_path: Path) -> list[str]:
    file = tmp_path / "consent.json"
    file.write_text(json.dumps(STATEMENT))
    return ["--consent", str(file)]


@pytest.fixture(scope="module")
def frames(data_folder: Path) -> Frames:
    with av.open(str(sorted((data_folder / "grid_s1" / "val").glob("*.mp4"))[0])) as container:
        return [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]


@pytest.fixture(scope="module")
def task(data_folder: Path) -> Path:
    return data_folder / "weights" / "face_landmarker.task"


def film(
    path: Path,
    show: Callable[[int], NDArray[np.uint8]],
    *,
    fps: float = 25,
    seconds: float = CLIP_S,
    sound: bool = True,
    turn_deg: int = 0,
) -> Path:
    """A video whose picture number k is `show(k)`."""
    height, width = show(0).shape[:2]
    return write_video(
        path,
        even_times(round(seconds * fps), fps),
        picture=Picture(width=width, height=height, turn_deg=turn_deg),
        sound=Sound(duration_s=seconds) if sound else None,
        draw=lambda number, _: VideoFrame.from_ndarray(np.ascontiguousarray(show(number)), format="rgb24"),
    )


def refusal(video: Path, task: Path, consent: list[str], capfd: pytest.CaptureFixture[str], *more: str) -> str:
    """The last line of what `create` says when it refuses; nothing is left at --out."""
    out = video.parent / "me"
    given = ["create", str(video), "--out", str(out), "--face-landmarker", str(task), *consent]
    assert main([*given, "--preset", "adapt", *more]) == EXIT_BAD_INPUT
    assert not out.exists() and not list(out.parent.glob(".me*"))
    return capfd.readouterr().err.strip().splitlines()[-1]


def prepared(video: Path, task: Path) -> ClipFeatures:
    """What `create` reads of a video that it takes."""
    (clip,) = load_clips(create._prepared([video], video.parent / "work", task, None))
    return clip


@pytest.mark.slow
def test_nobody_in_the_picture(
    tmp_path: Path, task: Path, consent: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (30, 240, 320, 3), np.uint8)
    video = film(tmp_path / "nobody.mp4", lambda k: noise[k], seconds=1.2)
    assert refusal(video, task, consent, capfd) == (
        "nerf-lipsync: nobody.mp4: no face in 30 frames; one face must look at the camera"
    )


@pytest.mark.nightly
@pytest.mark.slow
def test_two_people(
    tmp_path: Path, task: Path, consent: list[str], frames: Frames, capfd: pytest.CaptureFixture[str]
) -> None:
    video = film(tmp_path / "two.mp4", lambda k: np.concatenate([frames[k], frames[k + 9][:, ::-1]], 1), seconds=1.2)
    said = refusal(video, task, consent, capfd)
    assert said.startswith("nerf-lipsync: two.mp4: a second face") and "film one person alone" in said


@pytest.mark.nightly
@pytest.mark.slow
def test_a_face_that_leaves_the_picture(
    tmp_path: Path, task: Path, consent: list[str], frames: Frames, capfd: pytest.CaptureFixture[str]
) -> None:
    empty = np.full_like(frames[0], 100)
    video = film(tmp_path / "gone.mp4", lambda k: frames[k] if k < 12 else empty, seconds=1.6)
    assert "keep it in the picture" in refusal(video, task, consent, capfd)
    video = film(tmp_path / "late.mp4", lambda k: frames[k] if k < 30 else empty)
    said = refusal(video, task, consent, capfd, "--work", str(tmp_path / "late"))
    assert "of usable video; preset adapt needs 2 s: film more" in said  # what can be used is too short


@pytest.mark.nightly
@pytest.mark.slow
def test_three_seconds_for_a_preset_that_needs_more(
    tmp_path: Path, task: Path, consent: list[str], frames: Frames, capfd: pytest.CaptureFixture[str]
) -> None:
    video = film(tmp_path / "short.mp4", lambda k: frames[k], seconds=3.0)
    said = refusal(video, task, consent, capfd, "--preset", "standard")
    assert "3.0 s of usable video; preset standard needs 20 s: film more, or use --preset adapt" in said


@pytest.mark.nightly
@pytest.mark.slow
def test_a_picture_on_its_side_is_turned_or_refused(
    tmp_path: Path, task: Path, consent: list[str], frames: Frames, capfd: pytest.CaptureFixture[str]
) -> None:
    phone = prepared(film(tmp_path / "phone.mp4", lambda k: np.rot90(frames[k], -1), seconds=1.2, turn_deg=90), task)
    assert np.abs(phone.pose.angles_deg[:, 2]).max() < 15
    assert any(note.startswith(Note.ROTATED) for note in phone.meta["notes"])
    lying = film(tmp_path / "lying.mp4", lambda k: np.rot90(frames[k], -1), seconds=1.2)
    said = refusal(lying, task, consent, capfd, "--work", str(tmp_path / "lying"))
    assert "turn the video upright" in said or "no face" in said or "the face is seen in" in said


@pytest.mark.nightly
@pytest.mark.timeout(600)
def test_4k_at_60_pictures_a_second_is_scaled_and_thinned_out(tmp_path: Path, task: Path, frames: Frames) -> None:
    def show(k: int) -> NDArray[np.uint8]:
        wide = np.full((2160, 3840, 3), 90, np.uint8)
        wide[:, 840:3000] = cv2.resize(frames[k * 25 // 60], (2160, 2160), interpolation=cv2.INTER_LINEAR)
        return wide

    clip = prepared(film(tmp_path / "large.mp4", show, fps=60, seconds=1.2), task)
    assert len(clip.landmarks) == 30 and max(clip.meta["width_px"], clip.meta["height_px"]) == 720
    for kind in (Note.RESIZED, Note.FRAME_RATE):
        assert any(note.startswith(kind) for note in clip.meta["notes"]), clip.meta["notes"]


@pytest.mark.slow
def test_video_without_sound_is_taken_and_said(
    tmp_path: Path, task: Path, frames: Frames, capfd: pytest.CaptureFixture[str]
) -> None:
    clip = prepared(film(tmp_path / "silent.mp4", lambda k: frames[k], seconds=1.2, sound=False), task)
    assert len(clip.landmarks) == 30 and not clip.audio.any()
    assert "note: silent: no sound, none needed" in capfd.readouterr().err
    assert clip.meta["sync_offset_frames"] is None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"person": "J\xfcrgen"}', "not UTF-8 text (byte 13 is 0xfc); save it as UTF-8"),
        (b"I agree", "consent is {"),
        (json.dumps({**STATEMENT, "until": "2030-01-01"}).encode(), "until"),
        (json.dumps({"person": "A B"}).encode(), "consent is {"),
        (json.dumps({**STATEMENT, "date": "tomorrow"}).encode(), "ISO date"),
        (json.dumps({**STATEMENT, "expires": "2026-11-02"}).encode(), "expired on 2026-11-02"),
    ],
)
def test_consent_files_that_cannot_be_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, said: str
) -> None:
    file = tmp_path / "consent.json"
    file.write_bytes(content)
    out = tmp_path / "me"
    assert main(["create", str(tmp_path / "no.mp4"), "--out", str(out), "--consent", str(file)]) == EXIT_BAD_INPUT
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert said in line
    assert sorted(p.name for p in tmp_path.iterdir()) == ["consent.json"]


def test_a_statement_that_is_not_utf8_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "words.txt"
    file.write_bytes("Ich stimme zu, Jürgen".encode("latin-1"))
    given = ["--consent-person", "A", "--consent-by", "A", "--consent-date", "2026-11-01"]
    command = ["create", str(tmp_path / "no.mp4"), "--out", str(tmp_path / "me"), *given]
    assert main([*command, "--consent-statement", str(file)]) == EXIT_BAD_INPUT
    assert f"{file} is not UTF-8 text" in capsys.readouterr().err


def test_consent_is_given_once(tmp_path: Path, consent: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    command = ["create", str(tmp_path / "no.mp4"), "--out", str(tmp_path / "me"), *consent]
    assert main([*command, "--consent-person", "A B"]) == EXIT_BAD_INPUT
    assert "leave the other --consent options out" in capsys.readouterr().err


@pytest.mark.parametrize("out", [".", "..", "./"])
@pytest.mark.parametrize("more", [[], ["--overwrite"]])
def test_the_current_folder_is_no_place_for_an_avatar(
    tmp_path: Path,
    consent: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    out: str,
    more: list[str],
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "avatar.json").write_text("{}")
    monkeypatch.chdir(tmp_path / "here")
    assert main(["create", "no.mp4", "--out", out, *consent, *more]) == EXIT_BAD_INPUT
    assert "name a new folder for the avatar" in capsys.readouterr().err
    assert [p.name for p in (tmp_path / "here").iterdir()] == ["avatar.json"]


@pytest.mark.parametrize(
    ("video", "more"),
    [("me/film.mp4", ["--overwrite"]), ("me", ["--overwrite"]), ("film.mp4", ["--work", "me/work", "--overwrite"])],
)
def test_what_lies_in_the_avatars_folder_is_not_replaced_with_it(
    tmp_path: Path,
    consent: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    video: str,
    more: list[str],
) -> None:
    """Videos beside the avatar.json were deleted with the old avatar, and what is resumed likewise."""

    def train(prepared: Path, partial: Path, *_: object) -> None:
        partial.mkdir(parents=True)
        (partial / "avatar.json").write_text("{}")

    monkeypatch.setattr(create, "_prepared", lambda *_: tmp_path)
    monkeypatch.setattr(create, "_held_out", lambda *_: ())
    monkeypatch.setattr(create, "_train", train)
    monkeypatch.setattr(create, "_report", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    for name in ("me/film.mp4", "film.mp4", "me/avatar.json"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("the old one")
    assert main(["create", video, "--out", "me", *consent, *more]) == EXIT_BAD_INPUT
    assert "would be deleted with the folder that --out me replaces" in capsys.readouterr().err
    assert Path("me/film.mp4").read_text() == "the old one"


@pytest.fixture
def full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Everything up to the last copy works; that one ends in the middle, as on a full disk."""

    def train(prepared: Path, partial: Path, *_: object) -> None:
        partial.mkdir(parents=True)
        (partial / "avatar.json").write_text("{}")

    def move(source: Path, target: Path) -> None:
        target.mkdir()
        (target / "avatar.json").write_text("{")
        raise OSError(errno.ENOSPC, "No space left on device", str(target / "field.safetensors"))

    monkeypatch.setattr(create, "_prepared", lambda *_: tmp_path)
    monkeypatch.setattr(create, "_held_out", lambda *_: ())
    monkeypatch.setattr(create, "_train", train)
    monkeypatch.setattr(create, "_report", lambda *_: None)
    monkeypatch.setattr("shutil.move", move)
    return tmp_path / "avatars" / "me"


def test_work_on_other_videos_is_named_with_what_helps(
    tmp_path: Path, consent: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a clip that was refused, another one met `prepare`'s advice, and `--overwrite` did not help."""
    for number in (1, 2):
        (tmp_path / f"{number}.mp4").write_bytes(b"video")

    def begin(_data_set: str, clips: list[ClipSource], *, out: Path, **_: object) -> None:
        settings = ReadSettings()
        made = make_recipe(ordered_sources(clips), begin, settings, data_set="videos", shard_clips=4, inputs={})
        folder = PreparedFolder(out)
        with folder.locked():
            open_folder(folder, made, overwrite=False)
        raise InputError("a refused clip")

    monkeypatch.setattr("stream_server.commands.prepare._prepare", begin)
    for number, words in ((1, "a refused clip"), (2, "delete it, or name another folder with --work")):
        command = ["create", str(tmp_path / f"{number}.mp4"), "--out", str(tmp_path / "me"), *consent]
        assert main(command) == EXIT_BAD_INPUT
        assert words in capsys.readouterr().err


def test_a_full_disk_leaves_nothing_half_written(
    full_disk: Path, consent: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["create", "a.mp4", "--out", str(full_disk), *consent]) == EXIT_BAD_INPUT
    assert "cannot write the avatar: No space left on device" in capsys.readouterr().err
    assert not full_disk.exists() and [p.name for p in full_disk.parent.iterdir()] == ["me.work"]


def test_a_full_disk_keeps_the_avatar_that_was_there(
    full_disk: Path, consent: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    full_disk.mkdir(parents=True)
    (full_disk / "avatar.json").write_text("the old one")
    assert main(["create", "a.mp4", "--out", str(full_disk), "--overwrite", *consent]) == EXIT_BAD_INPUT
    assert "No space left" in capsys.readouterr().err
    assert (full_disk / "avatar.json").read_text() == "the old one"


def test_an_avatar_that_cannot_be_put_in_place_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old one had been moved aside, and was deleted with the new one."""
    partial, out = tmp_path / "partial", tmp_path / "me"
    for folder, text in ((partial, "the new one"), (out, "the old one")):
        folder.mkdir()
        (folder / "avatar.json").write_text(text)
    rename = Path.rename

    def interrupted(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        create._put(partial, out)
    assert (out / "avatar.json").read_text() == "the old one"


def test_a_disk_that_fills_up_while_the_field_is_written(
    tmp_path: Path, consent: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from model.checkpoint import save_checkpoint

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def train(prepared: Path, partial: Path, *_: object) -> None:
        avatar = load_avatar()
        monkeypatch.setattr("model.checkpoint.save_file", full)
        save_checkpoint(partial / "field.safetensors", {}, kind="radiance-field", config=avatar.config.field_config)

    monkeypatch.setattr(create, "_prepared", lambda *_: tmp_path)
    monkeypatch.setattr(create, "_held_out", lambda *_: ())
    monkeypatch.setattr(create, "_train", train)
    assert main(["create", "a.mp4", "--out", str(tmp_path / "me"), *consent]) == EXIT_BAD_INPUT
    assert "No space left" in capsys.readouterr().err
    assert not (tmp_path / "me").exists()
