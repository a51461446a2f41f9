"""The folder: layout, resuming, nothing half-written, and what is said when something is wrong."""

from __future__ import annotations

import errno
import json
import shutil
import wave
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from model.data.capture import Capture
from scripts.capture.errors import MissingBlenderError, RenderError
from scripts.capture.head import HeadRig
from scripts.capture.pack import pack
from scripts.capture.plan import FramePlan, Plan
from scripts.capture.plan_file import plan_of_capture
from scripts.capture.render import require_blender
from scripts.capture.store import LABEL_STEP, CaptureFolder, RunSettings, write_whole
from scripts.capture.verify import faults_of, main

SIZE_PX = 32


class Packed(NamedTuple):
    """A finished small capture and what it was made of."""

    folder: CaptureFolder
    plan: Plan
    rig: HeadRig
    settings: RunSettings


def drawn(folder: Path, level: int = 1) -> tuple[Path, Path]:
    """A picture and a mask as Blender writes them: a solid head over most of the picture."""
    folder.mkdir(parents=True, exist_ok=True)
    colors = np.zeros((SIZE_PX, SIZE_PX, 4), np.uint8)
    colors[2:30, 3:29] = (200, 120, 90, 255)
    mask = np.where(colors[..., 3] > 0, LABEL_STEP * level, 0).astype(np.uint8)
    Image.fromarray(colors).save(folder / "picture.png")
    Image.fromarray(mask).save(folder / "label_0001.png")
    return folder / "picture.png", folder / "label_0001.png"


@pytest.fixture
def begun(tmp_path: Path, small_plan: Plan) -> tuple[CaptureFolder, RunSettings]:
    folder, settings = CaptureFolder(tmp_path / "out"), RunSettings.of(small_plan, SIZE_PX, 4)
    folder.begin(settings)
    return folder, settings


@pytest.fixture
def packed(begun: tuple[CaptureFolder, RunSettings], small_plan: Plan, rig: HeadRig, tmp_path: Path) -> Packed:
    folder, settings = begun
    for frame in small_plan.frames:
        folder.store(frame, *drawn(tmp_path / "blender"))
    pack(folder, small_plan, rig, settings)
    return Packed(folder, small_plan, rig, settings)


def test_layout_is_what_training_reads(packed: Packed) -> None:
    root = packed.folder.root
    files = {str(p.relative_to(root)) for p in root.rglob("*") if p.is_file() and ".render" not in p.parts}
    pictures = {f"train/{i:04d}" for i in range(4)} | {f"sequence/{i:04d}" for i in range(3)}
    assert files == {f"{name}.webp" for name in pictures} | {f"mask/{name}.png" for name in pictures} | {
        "capture.json",
        "landmarks.npz",
        "audio/made.wav",
    }
    capture = Capture.open(root)
    camera = capture.camera()
    assert camera.size_px == SIZE_PX and camera.cx_px == SIZE_PX / 2
    assert capture.neck().share_low + capture.neck().share_high == 1
    frames = capture.frames("train", 16, np.zeros((7, 32), np.float32))
    assert len(frames) == 4 and frames.kind == ("fps",) * 4
    assert frames.rgba[0, 8, 8].tolist() == pytest.approx([200, 120, 90, 255], abs=3)
    assert frames.head[0, 8, 8] == 255
    np.testing.assert_allclose(frames.rotvec[2], [0.05, -0.2, 0.02], atol=1e-6)


def test_labels_agree_with_each_other(packed: Packed) -> None:
    about = json.loads((packed.folder.root / "capture.json").read_text())
    with np.load(packed.folder.root / "landmarks.npz") as points:
        assert points["frame_file"].tolist() == [f["file"] for f in about["frames"]]
        assert points["lm2d"].shape == (7, 68, 2) and points["lm3d"].dtype == np.float32
        assert points["lip_inner3d"].shape[1] == len(points["lip_inner_vertices"])
        for row, frame in enumerate(about["frames"]):
            np.testing.assert_allclose(points["lm2d"][row], frame["landmarks2d"], atol=0.006)
            seen = np.linalg.inv(np.array(frame["cam_to_world"])) @ np.append(points["lm3d"][row, 30], 1)
            u = about["camera"]["fx"] * seen[0] / seen[2] + about["camera"]["cx"]
            assert u == pytest.approx(points["lm2d"][row, 30, 0], abs=1e-3)
    (sequence,) = about["sequences"]
    assert sequence["transcript"] == "set" and sequence["count"] == 3 and sequence["first_index"] == 0
    assert about["counts"] == {"train": 4, "sequence": 3, "novel": 0, "orbit": 0}
    with wave.open(str(packed.folder.root / "audio/made.wav")) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    np.testing.assert_array_equal(samples, np.arange(1920))


def test_a_capture_gives_its_plan_back(packed: Packed) -> None:
    found = plan_of_capture(packed.folder.root)
    assert found.frames == packed.plan.frames and found.coefficient_names == packed.plan.coefficient_names
    np.testing.assert_array_equal(found.sounds["made"].audio, packed.plan.sounds["made"].audio)
    assert found.sounds["made"].words == packed.plan.sounds["made"].words


def test_a_part_can_be_packed(packed: Packed) -> None:
    packed.folder.picture(packed.plan.frames[1]).unlink()  # of the sequence
    counts = pack(*packed)
    about = json.loads((packed.folder.root / "capture.json").read_text())
    assert counts["sequence"] == 2 and counts["train"] == 4
    assert about["sequences"] == [] and len(about["frames"]) == 6


def test_nothing_to_pack(begun: tuple[CaptureFolder, RunSettings], small_plan: Plan, rig: HeadRig) -> None:
    with pytest.raises(RenderError, match="no finished frames"):
        pack(begun[0], small_plan, rig, begun[1])


def test_stored_pictures_keep_alpha_and_lossless_splits_all(
    begun: tuple[CaptureFolder, RunSettings], small_plan: Plan, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    colors = rng.integers(0, 256, (SIZE_PX, SIZE_PX, 4)).astype(np.uint8)
    picture, mask = drawn(tmp_path / "blender")
    Image.fromarray(colors).save(picture)
    sequence, still = small_plan.frames[0], small_plan.frames[3]
    assert (sequence.split, still.split) == ("sequence", "train")
    for frame in (sequence, still):
        begun[0].store(frame, picture, mask)
    with Image.open(begun[0].picture(sequence)) as stored:
        np.testing.assert_array_equal(np.array(stored), colors)
    with Image.open(begun[0].picture(still)) as stored:
        np.testing.assert_array_equal(np.array(stored)[..., 3], colors[..., 3])
    with Image.open(begun[0].mask(still)) as stored:
        assert set(np.unique(np.array(stored))) == {0, 1}


def test_a_frame_is_finished_with_both_files(
    begun: tuple[CaptureFolder, RunSettings], small_plan: Plan, tmp_path: Path
) -> None:
    folder, frame = begun[0], small_plan.frames[0]
    assert not folder.has(frame)
    folder.store(frame, *drawn(tmp_path / "blender"))
    assert folder.has(frame)
    folder.mask(frame).unlink()
    assert not folder.has(frame)


def test_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "file.bin"

    def interrupted(partial: Path) -> None:
        partial.write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(path, interrupted)
    assert list(path.parent.iterdir()) == []
    write_whole(path, lambda partial: partial.write_bytes(b"whole"))
    assert list(path.parent.iterdir()) == [path] and path.read_bytes() == b"whole"


def test_damaged_masks_are_refused(begun: tuple[CaptureFolder, RunSettings], small_plan: Plan, tmp_path: Path) -> None:
    folder, frame = begun[0], small_plan.frames[0]
    with pytest.raises(RenderError, match=r"sequence/0000: the mask holds grey levels \[  0 160\]"):
        folder.store(frame, *drawn(tmp_path / "blender", level=4))
    picture, mask = drawn(tmp_path / "blender")
    picture.write_bytes(picture.read_bytes()[:100])
    with pytest.raises(RenderError, match="cannot store sequence/0000"):
        folder.store(frame, picture, mask)
    assert not folder.has(frame)


def test_a_folder_continues_with_the_same_settings_only(
    begun: tuple[CaptureFolder, RunSettings], small_plan: Plan, tmp_path: Path
) -> None:
    folder, settings = begun
    folder.begin(settings)
    with pytest.raises(RenderError, match="begun with size_px 32, now 64"):
        folder.begin(replace(settings, size_px=64))
    other = replace(small_plan, frames=small_plan.frames[1:])
    with pytest.raises(RenderError, match="plan"):
        folder.begin(RunSettings.of(other, SIZE_PX, 4))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("precious")
    with pytest.raises(RenderError, match="not empty"):
        CaptureFolder(tmp_path / "mine").begin(settings)


def test_a_full_disk_is_said(
    begun: tuple[CaptureFolder, RunSettings], small_plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = begun[0]
    folder.require_space()
    usage = shutil.disk_usage(folder.root)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=3 * 2**20))
    with pytest.raises(RenderError, match=r"disk full: 3 MiB free .* it continues"):
        folder.require_space()

    def no_space(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", no_space)
    picture, mask = _saved_before(tmp_path)
    with pytest.raises(RenderError, match="disk full: cannot store sequence/0000"):
        folder.store(small_plan.frames[0], picture, mask)


def test_missing_blender_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingBlenderError, match=r"no bpy.*pip install nerf-lipsync\[capture\] under Python 3\.11"):
        require_blender()


def test_verify_finds_what_is_wrong(packed: Packed, capsys: pytest.CaptureFixture[str]) -> None:
    root = packed.folder.root
    assert [f for f in faults_of(root) if "landmarks lie on the head" not in f] == []
    packed.folder.picture(packed.plan.frames[0]).unlink()
    mask = packed.folder.mask(packed.plan.frames[1])
    Image.fromarray(np.zeros((SIZE_PX, SIZE_PX), np.uint8)).save(mask)
    (root / "audio/made.wav").unlink()
    faults = "\n".join(faults_of(root))
    assert "sequence/0000.webp: cannot be read" in faults
    assert "sequence/0001.webp: alpha and mask agree on 28.9%" in faults
    assert "made.wav: cannot be read" in faults
    assert main([str(root)]) == 1
    assert "faults" in capsys.readouterr().out
    assert next(iter(faults_of(root / "audio"))).startswith(f"{root / 'audio'} is no capture")


def test_verify_sees_moved_landmarks(packed: Packed) -> None:
    path = packed.folder.root / "landmarks.npz"
    with np.load(path) as data:
        arrays = {name: data[name] for name in data.files}
    arrays["lm2d"] = arrays["lm2d"] + 0.5
    np.savez(path, **arrays)
    assert sum("0.50 px from where the camera sees them" in fault for fault in faults_of(packed.folder.root)) == 7


def _saved_before(tmp_path: Path) -> tuple[Path, Path]:
    """Files made without `Image.save`, which the test has replaced."""
    import cv2

    picture, mask = tmp_path / "p.png", tmp_path / "m.png"
    cv2.imwrite(str(picture), np.zeros((SIZE_PX, SIZE_PX, 4), np.uint8))
    cv2.imwrite(str(mask), np.zeros((SIZE_PX, SIZE_PX), np.uint8))
    return picture, mask


def test_plans_and_frames_are_values(small_plan: Plan) -> None:
    frame = small_plan.frames[0]
    assert frame.name == "sequence/0000"
    assert RunSettings.of(small_plan, 320, 20) == RunSettings.of(small_plan, 320, 20)
    assert isinstance(frame, FramePlan) and frame != small_plan.frames[1]
