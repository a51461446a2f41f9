"""`nerf-lipsync prepare`: its options reach the analysis of a clip."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import model.data.preparing
from model.errors import DataError
from stream_server import cli


@pytest.mark.parametrize(
    ("options", "flow", "pictures"), [([], True, False), (["--no-flow"], False, False), (["--pictures"], True, True)]
)
def test_options_reach_the_analysis(
    options: list[str],
    flow: bool,
    pictures: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"")
    (tmp_path / "face.task").write_bytes(b"")
    asked: list[Any] = []

    def no_preparing(clips: Any, analyse: Any, settings: Any, *_: Any, **__: Any) -> None:
        asked.append(settings)
        raise DataError("enough")

    monkeypatch.setattr(model.data.preparing, "prepare_clips", no_preparing)
    call = ["prepare", "video", str(tmp_path), "--out", str(tmp_path / "out")]
    assert cli.main([*call, "--face-landmarker", str(tmp_path / "face.task"), *options]) != 0
    assert "enough" in capsys.readouterr().err
    assert [(s.with_flow, s.with_pictures) for s in asked] == [(flow, pictures)]
