"""Calls to the trained avatar over bad networks keep what docs/reliability.md promises."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import aioice.ice
import numpy as np
import pytest

from model.results import read_results
from stream_server.bench.errors import BenchError
from stream_server.bench.fault_report import fault_table
from stream_server.bench.faults import FAULTS, MOST_SHIFT_MS, PROCESS_FAULTS, Phases, judge, run_fault
from stream_server.bench.own_server import OwnServer
from stream_server.bench.udp_relay import Counts
from stream_server.bench.voice import made_voice
from stream_server.cli import main
from tests.stream_server.call_records import call

ROOT = Path(__file__).resolve().parents[2]
COMMITTED = ROOT / "benchmarks" / "results" / "faults.json"


@pytest.fixture(scope="module")
def server() -> Iterator[OwnServer]:
    with OwnServer("--size", "128", "--steps", "1") as process:
        yield process


@pytest.fixture(autouse=True)
def _loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aioice.ice, "get_host_addresses", aioice.ice.get_host_addresses)


@pytest.mark.fault
@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", FAULTS)
def test_a_call_over_a_bad_network_keeps_its_promise(server: OwnServer, name: str) -> None:
    fault = FAULTS[name]
    measured = asyncio.run(run_fault(server.url, made_voice(), fault.impairment))
    assert measured.freeze_ms <= fault.most_freeze_ms
    assert measured.shift_ms <= MOST_SHIFT_MS
    for counts in (measured.to_server, measured.to_caller):
        assert counts.came > 200  # the fault met a call in progress
        touched = counts.lost + counts.doubled + counts.reordered
        assert (touched > 0) != (name == "jitter")


def test_a_fault_is_judged_by_its_own_phases() -> None:
    """Before, frames every 100 ms; then a freeze of 700 ms; after it sound and picture 4 ms further apart."""
    before, bad, after = (np.arange(*tenths) / 10 for tenths in ((0, 50), (56, 70), (77, 120)))
    moments = np.concatenate([before, bad, after])
    offsets = np.concatenate([np.full(len(before), 3.0), np.full(len(bad), 90.0), np.full(len(after), 7.0)])
    phases = Phases(before_s=5, bad_s=2, recovery_s=1, after_s=4)
    counts = (Counts(came=5), Counts(came=6))
    record = call(moments.tolist(), offsets.tolist(), [7.4])
    measured = judge(record, 10_000_000_000, phases, counts)
    assert measured.freeze_before_ms == pytest.approx(100)
    assert measured.still_before_ms == pytest.approx(100)
    assert measured.still_ms == pytest.approx(800)
    assert measured.freeze_ms == pytest.approx(700)
    assert measured.shift_ms == pytest.approx(4)
    assert measured.fps == pytest.approx(len(bad) / 2)
    assert (measured.to_server.came, measured.to_caller.came) == (5, 6)


def test_a_picture_that_never_comes_back_is_no_figure() -> None:
    moments = np.arange(0, 5, 0.1)
    with pytest.raises(BenchError, match="0 after it"):
        judge(call(moments.tolist(), np.zeros(50).tolist()), 10_000_000_000, Phases(), (Counts(), Counts()))


def test_figures_carry_the_promises_and_the_table_shows_them() -> None:
    results = read_results(COMMITTED)
    for name, fault in FAULTS.items():
        assert results.figures[f"{name}.longest_freeze"].goal == fault.most_freeze_ms
        assert results.figures[f"{name}.av_shift"].goal == MOST_SHIFT_MS
    assert len(fault_table(results)) == 2 + len(FAULTS)
    assert set(results.details) >= set(FAULTS) | set(PROCESS_FAULTS)


def test_an_unknown_fault_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "faults", "--fault", "earthquake"]) == 2
    assert "no such fault: earthquake; there are loss_1" in capsys.readouterr().err


def test_a_server_elsewhere_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "faults", "--url", "http://192.0.2.1:8080"]) == 2
    assert "must be here too" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["latency", "load", "faults"])
def test_the_size_of_a_server_elsewhere_is_not_ours_to_choose(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It was left aside without a word."""
    assert main(["bench", command, "--url", "http://127.0.0.1:9", "--size", "256"]) == 2
    assert "--size is for a server of our own" in " ".join(capsys.readouterr().err.split())
