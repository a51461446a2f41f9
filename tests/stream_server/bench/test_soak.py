"""What grows is found with its confidence; calls are judged minute by minute."""

from __future__ import annotations

import json
import mmap
import os
from pathlib import Path

import numpy as np
import pytest

from model.results import read_results
from stream_server.bench.errors import BenchError
from stream_server.bench.process_usage import ProcessUsage, process_usages
from stream_server.bench.soak import Minute, Sample, SoakRun, by_minute
from stream_server.bench.soak_report import slope, soak_figures
from stream_server.cli import main
from tests.stream_server.call_records import call

PIPELINE = "tests.stream_server.fake_pipeline:FakePipeline"


def run(worker_mb_per_h: float, *, descriptors: int = 0, noise_mb: float = 0.05) -> SoakRun:
    """Half an hour of two processes; the worker grows, and opens descriptors one by one."""
    rng = np.random.default_rng(3)
    samples = []
    for number in range(180):
        at_s = 10.0 * number
        worker = 80.0 + worker_mb_per_h * at_s / 3600.0 + noise_mb * rng.standard_normal()
        processes = [
            ProcessUsage("worker", 11, at_s, int(worker * 1e6), 40 + descriptors * number // 180, 9),
            ProcessUsage("engine", 12, at_s, int(200e6 + 1e4 * rng.standard_normal()), 20, 5),
        ]
        samples.append(Sample(at_s, processes))
    minute = Minute(fps=25.0, latency_ms=220.0, av_offset_ms=-5.0, longest_still_ms=60.0)
    return SoakRun(samples, [[minute] * 30, [minute] * 30], 99, interrupted=False)


def missed(found: SoakRun) -> list[str]:
    return [name for name, figure in soak_figures(found).items() if figure.missed]


def test_a_slope_has_its_confidence() -> None:
    rng = np.random.default_rng(1)
    at = np.arange(0.0, 600.0, 10.0)
    inside = 0
    for _ in range(200):
        found = slope(at.tolist(), (3.0 + 0.01 * at + rng.standard_normal(len(at))).tolist())
        inside += found.low <= 0.01 <= found.high
    assert 180 <= inside <= 199


def test_a_server_that_keeps_its_size_passes() -> None:
    assert missed(run(0.0)) == []


def test_a_leak_of_two_percent_an_hour_is_found() -> None:
    figures = soak_figures(run(1.6))
    growth = figures["worker.memory_growth"]
    assert growth.value == pytest.approx(2.0, abs=0.3)
    assert growth.interval is not None
    assert growth.interval[0] < 2.0 < growth.interval[1]
    assert missed(run(1.6)) == ["worker.memory_growth"]


def test_descriptors_that_stay_open_are_found() -> None:
    assert missed(run(0.0, descriptors=8)) == ["worker.descriptors_growth"]


def test_a_process_that_was_replaced_is_not_judged_as_one() -> None:
    found = run(0.0)
    for sample in found.samples[100:]:
        sample.processes[1] = ProcessUsage("engine", 13, 0.0, 10**8, 20, 5)
    assert "engine.memory_growth" not in soak_figures(found)


def test_a_call_that_drifts_is_found() -> None:
    calm = Minute(fps=25.0, latency_ms=220.0, av_offset_ms=-5.0, longest_still_ms=60.0)
    late = Minute(fps=25.0, latency_ms=240.0, av_offset_ms=5.0, longest_still_ms=60.0)
    found = run(0.0)
    drifting = SoakRun(found.samples, [[calm] * 6, [calm] * 3 + [late] * 3], 0, interrupted=False)
    assert missed(drifting) == ["latency_drift", "av_offset_drift"]


def test_minutes_are_whole() -> None:
    moments = np.arange(0.0, 150.0, 0.04)
    minutes = by_minute(call(moments.tolist(), np.where(moments < 60.0, 3.0, 7.0).tolist()))
    assert [minute.av_offset_ms for minute in minutes] == [3.0, 7.0]
    assert minutes[0].fps == pytest.approx(25.0)
    assert minutes[0].longest_still_ms == pytest.approx(40.0)


def test_a_minute_without_a_picture_is_an_error() -> None:
    moments = [*np.arange(0.0, 50.0, 0.04), 130.0]
    with pytest.raises(BenchError, match="0 new frames in minute 1"):
        by_minute(call(moments, [0.0] * len(moments)))


def test_this_process_is_seen_with_its_descriptors_and_threads() -> None:
    own = next(one for one in process_usages(os.getpid()) if one.pid == os.getpid())
    before = own.descriptors
    size = 50_000_000
    with mmap.mmap(-1, size) as kept, open(os.devnull):  # pages of its own: malloc may hand out what it has
        kept.write(bytes(size))
        more = next(one for one in process_usages(os.getpid()) if one.pid == os.getpid())
    assert more.descriptors == before + 1
    assert own.threads >= 1
    assert 0.9 * size < more.memory_bytes - own.memory_bytes < 1.2 * size


@pytest.mark.nightly
@pytest.mark.timeout(500)
def test_the_command_writes_results(tmp_path: Path) -> None:
    file = tmp_path / "soak.json"
    assert main(["bench", "soak", "--minutes", "3.2", "--pipeline", PIPELINE, "--json", str(file)]) == 0
    figures = read_results(file).figures
    assert figures["minutes"].value == 3
    assert {f"{role}.memory_growth" for role in ("front", "worker", "engine", "stream_server")} <= set(figures)
    assert json.loads(file.read_text())["details"]["lost_packets"] > 50
