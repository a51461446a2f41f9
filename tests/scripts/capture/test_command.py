"""The command: what a user meets, and one real frame where Blender is installed."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scripts.capture.__main__ import main
from scripts.capture.plan import Plan
from scripts.capture.plan_file import save_plan
from scripts.capture.verify import faults_of

NEEDS_BLENDER = pytest.mark.skipif(
    importlib.util.find_spec("bpy") is None or importlib.util.find_spec("skimage") is None,
    reason="Blender is not here: pip install nerf-lipsync[capture] under Python 3.11",
)


def test_wrong_heads_and_plans_end_in_one_line(
    head_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    assert main(["--head", str(tmp_path / "none.npz"), "--out", out]) == 1
    assert "ICT-FaceKit arrays not found" in capsys.readouterr().err
    assert main(["--head", str(head_file), "--out", out]) == 1
    assert "the plan's 53 shapes are not the head's; the head lacks ['browDown_L'" in capsys.readouterr().err
    assert main(["--head", str(head_file), "--out", out, "--motion", str(tmp_path / "no.npz")]) == 1
    assert "cannot read plan" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_wrong_arguments_are_said(head_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--head", str(head_file), "--out", "somewhere", "--part", "ears"]) == 2
    assert "ears" in capsys.readouterr().err
    assert main(["--help"]) == 0
    assert "--workers" in capsys.readouterr().out


def test_without_blender_nothing_is_begun(
    head_file: Path,
    small_plan: Plan,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    save_plan(tmp_path / "plan.npz", small_plan)
    monkeypatch.setattr("scripts.capture.render.importlib.util.find_spec", lambda name: None)
    args = ["--head", str(head_file), "--out", str(tmp_path / "out"), "--motion", str(tmp_path / "plan.npz")]
    assert main(args) == 1
    assert "pip install nerf-lipsync[capture] under Python 3.11" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@NEEDS_BLENDER
@pytest.mark.slow
def test_a_frame_is_rendered_labelled_and_not_rendered_again(data_folder: Path, tmp_path: Path) -> None:
    args = ["--head", str(data_folder / "ict_facekit" / "ict_facekit.npz"), "--out", str(tmp_path / "out")]
    args += ["--part", "stills", "--limit", "1", "--size", "64", "--samples", "8"]
    assert main(args) == 0
    picture = tmp_path / "out/train/0000.webp"
    before = picture.stat().st_mtime_ns
    assert list(faults_of(tmp_path / "out")) == []
    with Image.open(tmp_path / "out/mask/train/0000.png") as opened:
        labels = np.array(opened)
    with Image.open(picture) as opened:
        colors = np.array(opened.convert("RGBA")).astype(float)
    assert {0, 1, 2} <= set(np.unique(labels))
    skin = colors[30:44, 26:38, :3].mean((0, 1))
    assert skin[0] > skin[1] > skin[2] > 60  # lit skin in the middle of the face
    assert main(args) == 0
    assert picture.stat().st_mtime_ns == before
    assert json.loads((tmp_path / "out/capture.json").read_text())["counts"]["train"] == 1
