"""`nerf-lipsync create`: what it refuses, in words; and, slowly, a whole avatar from one real clip."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from model.avatar import load_avatar
from model.radiance.camera import HeadPose
from model.radiance.serving import AvatarRenderer
from stream_server.cli import main
from stream_server.commands import create

CONSENT = (
    *("--consent-person", "A B", "--consent-by", "A B", "--consent-date", "2026-11-01"),
    *("--consent-statement", "I agree to an avatar for this test."),
)


def data_folder() -> Path:
    root = os.environ.get("NERF_LIPSYNC_DATA")
    if not root:
        pytest.skip("NERF_LIPSYNC_DATA is not set")
    return Path(root)


def test_consent_is_asked_for_before_anything_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["create", str(tmp_path / "no.mp4"), "--out", str(tmp_path / "me")]) == 2
    assert "consent" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_consent_that_ends_before_it_began_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["create", str(tmp_path / "no.mp4"), "--out", str(tmp_path / "me"), *CONSENT]
    assert main([*given, "--consent-expires", "2026-10-01"]) == 2
    assert "2026-10-01" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("dated", "expires", "said"), [("2026-11-01", "2026-11-02", "expired"), ("2999-01-01", None, "today")]
)
def test_consent_that_serving_would_refuse_is_refused_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], dated: str, expires: str | None, said: str
) -> None:
    given = [*CONSENT, "--consent-date", dated, *(["--consent-expires", expires] if expires else [])]
    assert main(["create", str(tmp_path / "no.mp4"), "--out", str(tmp_path / "me"), *given]) == 2
    assert said in capsys.readouterr().err


def test_overwrite_never_deletes_what_is_no_avatar(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.jpg").write_bytes(b"x")
    given = ["create", str(tmp_path / "no.mp4"), "--out", str(tmp_path / "photos"), "--overwrite", *CONSENT]
    assert main(given) == 2
    assert "no avatar" in capsys.readouterr().err
    assert (tmp_path / "photos" / "one.jpg").is_file()


def test_a_finished_avatar_takes_the_place_of_an_older_one(tmp_path: Path) -> None:
    new, out = tmp_path / "work" / "avatar.partial", tmp_path / "me"
    for folder, text in ((new, "new"), (out, "old")):
        folder.mkdir(parents=True)
        (folder / "avatar.json").write_text(text)
    create._put(new, out)
    assert (out / "avatar.json").read_text() == "new"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["me", "work"]


def test_an_avatar_that_is_there_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "me").mkdir()
    assert main(["create", str(tmp_path / "no.mp4"), "--out", str(tmp_path / "me"), *CONSENT]) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_a_gpu_that_is_not_here_is_refused_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    given = ["create", str(tmp_path / "no.mp4"), "--out", str(tmp_path / "me"), "--device", "cuda", *CONSENT]
    assert main(given) == 2
    assert "device cuda cannot be used: " in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_missing_video_leaves_no_avatar(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["create", str(tmp_path / "no.mp4"), "--out", str(tmp_path / "me"), *CONSENT]) == 2
    assert "no.mp4" in capsys.readouterr().err
    assert not (tmp_path / "me").exists()


@pytest.mark.nightly
def test_three_seconds_are_too_short_for_all_but_adapt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = data_folder()
    clip = sorted((data / "grid_s1/val").glob("*.mp4"))[0]
    landmarker = ["--face-landmarker", str(data / "weights/face_landmarker.task")]
    given = [str(clip), "--out", str(tmp_path / "me"), "--work", str(tmp_path / "work"), *landmarker, *CONSENT]
    assert main(["create", *given, "--preset", "preview"]) == 2
    assert "3.0 s of usable video" in capsys.readouterr().err
    assert main(["create", *given, "--preset", "adapt", "--minutes", "0.3"]) == 0
    assert (tmp_path / "me" / "report.html").is_file()
    avatar = load_avatar(tmp_path / "me")
    assert json.loads((tmp_path / "me" / "avatar.json").read_text())["consent"]["person"] == "A B"
    renderer = AvatarRenderer(avatar, size_px=64)
    still, turned = (renderer.render(np.zeros(32, np.float32), HeadPose(yaw_deg=y)).copy() for y in (0.0, 12.0))
    assert np.abs(still.astype(int) - turned).mean() > 1
