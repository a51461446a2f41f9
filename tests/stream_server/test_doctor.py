"""The report survives whatever is missing, and fails only where serving cannot work."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
from pathlib import Path

import pytest

from stream_server import cli, doctor
from stream_server.doctor import Finding, can_serve, diagnose


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


def test_every_finding_that_is_not_ok_says_what_to_do() -> None:
    findings = diagnose(data_folder=None, measure=False)
    assert len(findings) == len(by_name(findings))
    assert all(finding.remedy for finding in findings if finding.state != "ok")


def test_each_encoder_is_tried_and_one_is_used() -> None:
    found = by_name(diagnose(data_folder=None, measure=False))
    encoders = {name: finding for name, finding in found.items() if name.startswith("encoder ")}
    assert sum("; used" in finding.found for finding in encoders.values()) == 1
    assert encoders["encoder libvpx"].state == "ok"
    assert "ms a frame" in encoders["encoder libvpx"].found
    assert encoders["encoder libopenh264"].found == "not in this FFmpeg"
    if importlib.util.find_spec("pyvirtualcam") is None:
        assert "pip install 'nerf-lipsync[camera]'" in found["virtual camera"].remedy


def test_only_failures_keep_from_serving() -> None:
    ok, note, fail = Finding("a", "ok", ""), Finding("b", "note", ""), Finding("c", "fail", "")
    assert can_serve([ok, note])
    assert not can_serve([ok, fail, note])


def test_a_missing_package_and_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    real_version = importlib.metadata.version

    def version(name: str) -> str:
        if name in ("aiortc", "smplx"):
            raise importlib.metadata.PackageNotFoundError(name)
        return real_version(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    found = by_name(diagnose(data_folder=None, measure=False))
    assert found["serving"] == Finding("serving", "fail", "missing: aiortc", doctor.INSTALL_HINT)
    assert found["making avatars"].state == "note"
    assert found["chromium"].state == "note"


def test_without_ray_only_the_cluster_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    real_version = importlib.metadata.version

    def version(name: str) -> str:
        if name == "ray":
            raise importlib.metadata.PackageNotFoundError(name)
        return real_version(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    found = by_name(diagnose(data_folder=None, measure=False))["ray"]
    assert found.state == "note"
    assert "pip install 'nerf-lipsync[cluster]'" in found.remedy


def test_a_broken_package_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def import_module(name: str) -> object:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(doctor.importlib, "import_module", import_module)
    found = by_name(diagnose(data_folder=None, measure=False))
    assert found["torch"].state == "fail"
    assert "cannot open shared object file" in found["torch"].found


def test_the_face_landmarker_is_looked_for(tmp_path: Path) -> None:
    assert by_name(diagnose(data_folder=tmp_path, measure=False))["face landmarker"].state == "note"
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / doctor.LANDMARKER_NAME).write_bytes(b"x" * 1_000_000)
    found = by_name(diagnose(data_folder=tmp_path, measure=False))["face landmarker"]
    assert found.state == "ok"
    assert "1.0 MB" in found.found
    fetched = by_name(diagnose(data_folder=None, measure=False, model_cache=tmp_path / "weights"))["face landmarker"]
    assert fetched.state == "ok"


def test_without_an_avatar_serving_cannot_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "SHIPPED_FOLDER", tmp_path)
    assert cli.main(["doctor", "--no-measure"]) == 1
    assert "serving cannot work" in capsys.readouterr().out
