"""What a browser's viewer sees is judged as a caller's is; and Chromium really calls through the relay."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.results import new_results
from stream_server.bench.browser_faults import (
    LEAST_BROWSER_OFFSET_MS,
    MOST_BROWSER_MS,
    MOST_BROWSER_OFFSET_MS,
    browser_fault_figures,
    browser_fault_table,
    judge_browser,
    run_browser_fault,
)
from stream_server.bench.errors import BenchError
from stream_server.bench.faults import FAULTS, Phases
from stream_server.bench.own_server import OwnServer
from stream_server.bench.udp_relay import Counts, Impairment
from stream_server.bench.voice import made_voice, write_voice
from tests.support.chromium import find_chromium

PHASES = Phases(before_s=2.0, bad_s=2.0, recovery_s=1.0, after_s=2.0)
FAKE = "tests.stream_server.fake_pipeline:FakePipeline"


def recorded(holes_ms: tuple[float, float] = (0.0, 0.0), *, shift_ms: float = 0.0) -> dict[str, Any]:
    """Frames every 40 ms over 8 s, none within the hole; the fault begins at 3 s."""
    times = [t for t in np.arange(0.0, 8000.0, 40.0) if not holes_ms[0] < t < holes_ms[1]]
    offsets = [[t, 5.0 + (shift_ms if t > 4000.0 else 0.0)] for t in np.arange(0.0, 8000.0, 500.0)]
    return {"size": 128, "frames": [[t, round(t / 40.0)] for t in times], "offsets": offsets}


def judged(raw: dict[str, Any]) -> Any:
    return judge_browser(raw, 3000.0, PHASES, (Counts(), Counts()))


def test_a_hole_is_a_freeze_and_a_shift_is_seen() -> None:
    measured = judged(recorded((3100.0, 3500.0), shift_ms=20.0))
    assert measured.freeze_before_ms == pytest.approx(40.0)
    assert measured.freeze_ms == pytest.approx(440.0)
    assert measured.shift_ms == pytest.approx(20.0)
    assert measured.latency_before_ms is None


def test_frames_that_show_nothing_new_are_no_freeze_but_stand_still() -> None:
    raw = recorded()
    for frame in raw["frames"]:
        if 3500.0 <= frame[0] < 3800.0:
            frame[1] = 87
    measured = judged(raw)
    assert measured.freeze_ms == pytest.approx(40.0)
    assert measured.still_ms == pytest.approx(320.0)


def test_unread_codes_are_frames_too() -> None:
    raw = recorded()
    for frame in raw["frames"][80:84]:
        frame[1] = None
    measured = judged(raw)
    assert (measured.freeze_ms, measured.still_ms) == (pytest.approx(40.0), pytest.approx(200.0))


def test_without_frames_after_the_fault_nothing_is_said() -> None:
    with pytest.raises(BenchError, match="0 after it"):
        judged(recorded((3100.0, 9000.0)))


def test_where_sound_stands_has_a_sign_and_one_odd_look_does_not_count() -> None:
    early, late = recorded(shift_ms=-55.0), recorded(shift_ms=130.0)
    early["offsets"][13][1] = -300.0
    figures = {
        side: browser_fault_figures({"gap": [judged(recorded()), judged(raw)]})
        for side, raw in (("early", early), ("late", late))
    }
    least = figures["early"]["browser.gap.sound_least_after_picture"]
    assert (least.value, least.goal, least.missed) == (pytest.approx(-50.0), LEAST_BROWSER_OFFSET_MS, True)
    assert not figures["early"]["browser.gap.sound_most_after_picture"].missed
    most = figures["late"]["browser.gap.sound_most_after_picture"]
    assert (most.value, most.goal, most.missed) == (pytest.approx(135.0), MOST_BROWSER_OFFSET_MS, True)
    assert not figures["late"]["browser.gap.sound_least_after_picture"].missed


def test_the_worst_of_several_calls_counts() -> None:
    calls = [judged(recorded((3100.0, 3500.0), shift_ms=3.0)), judged(recorded((3100.0, 3300.0), shift_ms=-20.0))]
    figures = browser_fault_figures({"gap": calls})
    assert figures["browser.gap.longest_freeze"].value == pytest.approx(440.0)
    assert figures["browser.gap.av_shift"].value == pytest.approx(20.0)


def test_figures_and_table_hold_promise_and_measure() -> None:
    figures = browser_fault_figures({"gap": [judged(recorded((3100.0, 3500.0)))]})
    assert figures["browser.gap.longest_freeze"].goal == FAULTS["gap"].most_freeze_ms + MOST_BROWSER_MS
    lines = browser_fault_table(new_results(figures, command="c", data="d"))
    assert len(lines) == 3
    assert "| 700 ms | 440 ms | 40 ms |" in lines[2]
    assert lines[2].endswith("| 40 ms | 0 ms | -45 to 125 ms | 5 to 5 ms |")
    assert browser_fault_table(new_results({}, command="c", data="d")) == []


@pytest.mark.fault
@pytest.mark.browser
@pytest.mark.timeout(240)
def test_chromium_calls_through_the_relay(tmp_path: Path) -> None:
    executable = find_chromium()
    if executable is None:
        pytest.skip("no Chromium is installed")
    voice = tmp_path / "voice.wav"
    write_voice(voice, made_voice(10.0))
    phases = Phases(before_s=3.0, bad_s=4.0, recovery_s=2.0, after_s=3.0)
    with OwnServer("--size", "128", "--pipeline", FAKE) as server:
        measured = asyncio.run(run_browser_fault(server.url, executable, voice, Impairment(loss=0.05), phases=phases))
    for counts in (measured.to_server, measured.to_caller):
        assert counts.came > 100
        assert counts.lost > 2
    assert measured.fps > 10.0
