"""Callers one by one against a real server, and its judgement on numbers made up."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from model.results import read_results
from stream_server.bench.errors import BenchError
from stream_server.bench.load import Level, LoadRun, measure_load
from stream_server.bench.load_report import load_figures
from stream_server.bench.load_session import new_frames
from stream_server.bench.own_server import OwnServer
from stream_server.bench.process_usage import descendants, tree_usage
from stream_server.bench.voice import made_voice, write_voice
from stream_server.cli import main
from tests.stream_server.server_process import FAKE

SLOW = "tests.stream_server.fake_pipeline:SlowPipeline"


def level(sessions: int, p95_ms: float, fps: list[float]) -> Level:
    return Level(sessions, [40.0] * sessions, [p95_ms] * sessions, fps, 0, 0.4, 0.5, 2**20)


def test_capacity_is_the_last_level_that_holds() -> None:
    run = LoadRun([level(1, 41.0, [25.0]), level(2, 49.0, [25.0, 25.0]), level(3, 90.0, [25.0, 5.0, 5.0])], 503, 5.0)
    figures = load_figures(run)
    assert run.capacity == figures["capacity"].value == 2
    assert figures["3_callers.fairness"].value == pytest.approx(35**2 / (3 * 675))
    assert figures["3_callers.frame_interval_p95"].goal is None  # beyond capacity nothing is promised
    assert figures["2_callers.frame_interval_p95"].goal == 50.0
    assert figures["refusal_retry_after"].value == 5.0
    assert figures["1_callers.server_memory"].value == 1.0


def test_no_level_holds() -> None:
    assert LoadRun([level(1, 80.0, [12.0])]).capacity == 0
    assert LoadRun([]).capacity == 0


def test_only_frames_newer_than_all_before_count() -> None:
    assert new_frames([5, 5, 6, None, 9, 8], [1, 2, 3, 4, 5, 6], -1) == ([1, 3, 5], 2, 9)
    assert new_frames([9, 11], [7, 8], 9) == ([8], 1, 11)
    assert new_frames([], [], 3) == ([], 0, 3)


def test_usage_of_a_process_and_its_child() -> None:
    child = "import sys; sum(range(10**7)); print('done', flush=True); sys.stdin.read()"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        usage = tree_usage(process.pid)
        assert usage.processes == len(descendants(process.pid)) == 2
        assert usage.cpu_s > 0.05
        assert usage.memory_bytes > 5e6
        assert process.pid in descendants(os.getpid())
        process.communicate()
    with pytest.raises(BenchError, match="no process"):
        tree_usage(process.pid)


@pytest.mark.nightly
@pytest.mark.slow
def test_callers_are_added_until_the_server_refuses(tmp_path: Path) -> None:
    file = tmp_path / "load.json"
    arguments = ["--max-sessions", "2", "--hold", "2", "--limit", "300", "--pipeline", FAKE, "--json", str(file)]
    assert main(["bench", "load", *arguments]) == 0
    results = read_results(file)
    figures = results.figures
    assert results.details["refused"] == 503
    assert [one["sessions"] for one in results.details["levels"]] == [1, 2]
    assert figures["capacity"].value == 2
    assert figures["refusal_retry_after"].value == 5.0
    assert figures["2_callers.fairness"].value > 0.95
    assert figures["2_callers.fps_lowest"].value == pytest.approx(25, abs=8)
    assert 0 < figures["2_callers.server_cpu"].value < 2
    assert figures["2_callers.server_memory"].value > 50


@pytest.mark.nightly
def test_a_server_that_is_too_slow_carries_nobody(tmp_path: Path) -> None:
    voice = tmp_path / "voice.wav"
    write_voice(voice, made_voice(11.0))
    with OwnServer("--size", "128", "--max-sessions", "3", "--pipeline", SLOW) as server:
        run = asyncio.run(measure_load(server.url, voice, most=3, hold_s=4.0, server_pid=server.pid))
    assert len(run.levels) == 1
    assert run.levels[0].worst_p95_ms > 50
    assert (run.capacity, run.refused) == (0, None)
