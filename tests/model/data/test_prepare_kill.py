"""`kill -9` at any moment, and Ctrl-C: running again ends with the bytes of an undisturbed run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.clip_analysis import ToySettings
from tests.support.clip_runs import contents, prepare_toy, toy_sources

ROOT = Path(__file__).resolve().parents[3]
DEADLINE_S = 60.0
COUNT = 12
TEXTS = {2: "refuse", 6: "split"}
NIGHTLY = pytest.mark.nightly


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("undisturbed")
    prepare_toy(out, toy_sources(COUNT, TEXTS))
    return contents(out)


def start(out: Path, texts: dict[int, str], **options: Any) -> subprocess.Popen[bytes]:
    words = json.dumps({"out": str(out), "count": COUNT, "texts": texts, **options})
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.support.clip_runs", words]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> int:
    process.communicate(timeout=DEADLINE_S)
    return process.returncode


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.01)


def done_of_shard(out: Path, shard: int) -> int:
    """Clips packed, or staged while there is no sidecar; staged outcomes go after the sidecar has come."""
    sidecar = out / f"shard-{shard:06d}.json"
    if sidecar.exists():
        return len(json.loads(sidecar.read_text())["clips"])
    return len(list(out.glob(f".staging/{shard:06d}/clip*.tar")))


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("rename", "when"),
    [
        (1, "before"),  # the recipe
        pytest.param(1, "after", marks=NIGHTLY),
        pytest.param(2, "before", marks=NIGHTLY),  # the first shard
        (2, "after"),  # no sidecar yet
        pytest.param(3, "after", marks=NIGHTLY),  # its staging still there
        pytest.param(5, "before", marks=NIGHTLY),  # the second sidecar
        (9, "before"),  # the manifest
    ],
)
def test_a_kill_around_a_rename_is_made_good(
    tmp_path: Path, undisturbed: dict[str, bytes], rename: int, when: str
) -> None:
    assert finish(start(tmp_path, TEXTS, rename=rename, when=when)) == -signal.SIGKILL
    assert contents(tmp_path) != undisturbed
    prepare_toy(tmp_path, toy_sources(COUNT, TEXTS))
    assert contents(tmp_path) == undisturbed


@pytest.mark.parametrize(
    ("gate", "workers"), [pytest.param(1, 1, marks=NIGHTLY), (4, 2), pytest.param(8, 2, marks=NIGHTLY)]
)
def test_a_kill_between_clips_is_made_good(tmp_path: Path, gate: int, workers: int) -> None:
    """The clip at the gate does not end before the run is killed; those before it are done by then."""
    texts = TEXTS | {gate: "patient"}
    gates, out, clip = tmp_path / "gates", tmp_path / "out", f"clip{gate:03d}"
    gates.mkdir()
    os.mkfifo(gates / clip)
    process = start(out, texts, workers=workers, clips_allowed=str(gates))
    others = 1 if workers == 1 else COUNT - 1

    def done() -> int:
        return sum(done_of_shard(out, shard) for shard in range(3))

    wait_until(lambda: done() >= others)
    children = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    process.kill()
    finish(process)
    wait_until(lambda: not any(map(is_alive, children)))
    (gates / clip).unlink()
    (gates / clip).touch()
    finished = [file.with_suffix(".tar") for file in out.glob("shard-*.json")]
    kept = {file: file.stat().st_mtime_ns for file in finished}
    manifest = prepare_toy(out, toy_sources(COUNT, texts), settings=ToySettings(clips_allowed=gates))
    assert {file: file.stat().st_mtime_ns for file in kept} == kept
    assert json.loads((out / "run.json").read_text())["runs"][-1]["clips"] == COUNT - others
    assert manifest.clips == COUNT
    fresh = tmp_path / "fresh"
    prepare_toy(fresh, toy_sources(COUNT, texts), settings=ToySettings(clips_allowed=gates))
    assert contents(out) == contents(fresh)


def test_ctrl_c_stops_soon_and_keeps_what_is_done(tmp_path: Path) -> None:
    gates, out = tmp_path / "gates", tmp_path / "out"
    gates.mkdir()
    os.mkfifo(gates / "clip007")
    process = start(out, {7: "patient"}, clips_allowed=str(gates))
    wait_until(lambda: len(list(out.glob(".staging/000001/*.tar"))) == 2)
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=DEADLINE_S)
    assert time.monotonic() - begun < 10
    assert errors.rstrip().endswith(b"KeyboardInterrupt")
    run = json.loads((out / "run.json").read_text())["runs"][0]
    assert (run["clips"], run["complete"]) == (7, False)
    assert (out / "shard-000000.json").is_file() and not (out / "manifest.json").exists()
