"""The Ray engine gives the local engine's bytes. Slow: a Ray cluster of this machine starts and stops."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from model.data.clip_types import Problem
from model.data.preparing import ray_engine
from model.errors import DataError
from tests.support.clip_runs import contents, prepare_toy, toy_sources

HAS_RAY = all(importlib.util.find_spec(name) is not None for name in ("ray", "pyarrow"))
needs_ray = pytest.mark.skipif(not HAS_RAY, reason="ray is not installed: pip install -e .[cluster]")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray Data 2.60 reads its own deprecated settings
TROUBLE = {1: "segfault", 3: "hang", 6: "raise", 8: "refuse", 11: "split"}


@pytest.mark.slow
@needs_ray
def test_ray_and_the_local_engine_give_the_same_bytes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import ray

    sources = toy_sources(12, TROUBLE)
    prepare_toy(tmp_path / "local", sources, timeout_s=1.5)
    capfd.readouterr()
    calls: list[tuple[float, ...]] = []
    prepare_toy(
        tmp_path / "ray", sources, engine="ray", workers=2, timeout_s=1.5, on_progress=lambda *c: calls.append(c)
    )
    assert capfd.readouterr().out == ""
    assert not ray.is_initialized()
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")
    assert calls[-1][:3] == (12, 12, 4)


@pytest.mark.nightly
@pytest.mark.slow
@needs_ray
def test_ray_goes_on_where_another_run_stopped(tmp_path: Path) -> None:
    """A clip that kills its Ray worker each time becomes a reject; finished shards are not touched."""
    sources = toy_sources(12, {7: "kill-parent"})
    manifest = prepare_toy(tmp_path, sources, engine="ray", workers=2)
    assert manifest.rejects == {Problem.CRASHED: 1}
    assert b"its Ray worker was lost, 2 times in a row" in (tmp_path / "shard-000001.json").read_bytes()
    whole = contents(tmp_path)
    for kind in ("tar", "json"):
        (tmp_path / f"shard-000002.{kind}").unlink()
    kept = {file: file.stat().st_mtime_ns for file in tmp_path.glob("shard-*.tar")}
    prepare_toy(tmp_path, sources, engine="ray", workers=1)
    assert contents(tmp_path) == whole
    assert {file: file.stat().st_mtime_ns for file in kept} == kept and len(kept) == 2


def test_without_ray_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_engine.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"pip install -e \.\[cluster\]"):
        prepare_toy(tmp_path, toy_sources(1), engine="ray")
