"""The bad networks of `faults` between real Chromium and a server of our own: what its viewer sees freeze.

The page is the server's own; its offers and answers are changed on their way to name a `UdpRelay`. The browser's jitter
buffer, decoder and display are in these figures.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model.results import Figure, Results
from stream_server.bench.chromium import Chromium
from stream_server.bench.errors import BenchError
from stream_server.bench.fault_report import marked
from stream_server.bench.faults import FAULTS, FaultMeasures, Phases, judge_moments
from stream_server.bench.udp_relay import Counts, Impairment, UdpRelay

__all__ = [
    "BROWSER_FAULTS",
    "MOST_BROWSER_MS",
    "browser_fault_figures",
    "browser_fault_table",
    "judge_browser",
    "run_browser_fault",
]

BROWSER_FAULTS = ("loss_1", "loss_5", "loss_10", "gap", "jitter")
MOST_BROWSER_MS = 250.0
"""A browser's buffer may add so much to a freeze that the network alone makes."""
MOST_BROWSER_SHIFT_MS = 40.0
LEAST_BROWSER_OFFSET_MS, MOST_BROWSER_OFFSET_MS = -45.0, 125.0
"""Sound after its picture (negative: before it) that nobody notices: detectability of ITU-R BT.1359."""

_COLUMNS = (
    *("longest_freeze", "longest_freeze_before", "longest_without_new_frame"),
    *("av_shift", "sound_least_after_picture", "sound_most_after_picture"),
)
_SCRIPTS = Path(__file__).parent / "browser"
_SETTLE_S = 4.0


async def run_browser_fault(
    url: str, executable: str, microphone: Path, impairment: Impairment, *, phases: Phases | None = None
) -> FaultMeasures:
    """One call by the page of the server at `url`; `microphone` is a WAV file that plays over and over.

    Raises:
        BenchError: The page did not connect, or too few frames came.
    """
    phases = phases or Phases()
    relay = UdpRelay()
    await relay.open()
    try:
        caller, server = relay.addresses
        through = _script("through_relay.js", {"caller": caller, "server": server})
        browser = await asyncio.to_thread(Chromium, executable, microphone)
        try:
            await asyncio.to_thread(_start, browser, url, through)
            await asyncio.sleep(_SETTLE_S + phases.before_s)
            began_ms = float(await asyncio.to_thread(browser.evaluate, "performance.now()"))
            relay.impair(impairment)
            await asyncio.sleep(phases.bad_s)
            counts = relay.impair(Impairment())
            await asyncio.sleep(phases.recovery_s + phases.after_s)
            raw = await asyncio.to_thread(browser.evaluate, "relayWatch()")
            await asyncio.to_thread(browser.evaluate, "document.getElementById('stop').click()")  # frees its place
        finally:
            await asyncio.to_thread(browser.close)
    except (RuntimeError, TimeoutError) as error:
        raise BenchError(f"the browser's call failed: {error}") from error
    finally:
        relay.close()
    return judge_browser(raw, began_ms, phases, counts)


def _start(browser: Chromium, url: str, through: str) -> None:
    browser.call("Page.addScriptToEvaluateOnNewDocument", source=through)
    browser.open(url)
    browser.evaluate("document.getElementById('start').click()")
    browser.wait_for("document.body.dataset.state === 'live'", timeout_s=30)
    browser.wait_for("document.getElementById('avatar').videoWidth > 16", timeout_s=20)
    browser.evaluate(_script("watch.js"))


def _script(name: str, argument: Mapping[str, Any] | None = None) -> str:
    text = (_SCRIPTS / name).read_text()
    return f"{text}({'' if argument is None else json.dumps(argument)})"


def judge_browser(
    raw: Mapping[str, Any], began_ms: float, phases: Phases, counts: tuple[Counts, Counts]
) -> FaultMeasures:
    """Split what the page noted at the moment its fault began.

    Raises:
        BenchError: No frame was shown in one of the calm phases.
    """
    frames = [(at_ms, code) for at_ms, code in raw["frames"]]
    came_s = (np.array([at_ms for at_ms, _ in frames]) - began_ms) / 1e3
    codes = np.array([-1 if code is None else code for _, code in frames], np.int64)
    newest = np.maximum.accumulate(codes) if len(codes) else codes
    new = np.concatenate([codes[:1] >= 0, np.diff(newest) > 0])
    late = came_s >= -phases.before_s  # the browser settles until then
    offsets = np.array(raw["offsets"], np.float64).reshape(-1, 2)
    return judge_moments(
        came_s[late],
        came_s[late & new],
        phases,
        counts,
        offset_at_s=(offsets[:, 0] - began_ms) / 1e3,
        offset_ms=offsets[:, 1],
    )


def browser_fault_figures(found: Mapping[str, Sequence[FaultMeasures]]) -> dict[str, Figure]:
    """Figures `browser.FAULT.name`, each the worst of that fault's calls."""
    figures: dict[str, Figure] = {}
    for name, calls in found.items():

        def most(of: str, goal: float | None = None, *, calls: Sequence[FaultMeasures] = calls) -> Figure:
            return Figure(value=max(getattr(call, of) for call in calls), unit="ms", goal=goal, better="lower")

        least = min(call.av_least_ms for call in calls)
        made = {
            "longest_freeze": most("freeze_ms", FAULTS[name].most_freeze_ms + MOST_BROWSER_MS),
            "longest_freeze_before": most("freeze_before_ms"),
            "longest_without_new_frame": most("still_ms"),
            "av_shift": most("shift_ms", MOST_BROWSER_SHIFT_MS),
            "sound_least_after_picture": Figure(value=least, unit="ms", goal=LEAST_BROWSER_OFFSET_MS, better="higher"),
            "sound_most_after_picture": most("av_most_ms", MOST_BROWSER_OFFSET_MS),
            "fps": Figure(value=min(call.fps for call in calls), unit="fps", better="higher"),
        }
        figures |= {f"browser.{name}.{figure}": value for figure, value in made.items()}
    return figures


def browser_fault_table(results: Results) -> list[str]:
    """Markdown lines: promises beside what Chromium's viewer saw; empty if it was not measured."""
    rows = []
    for name in BROWSER_FAULTS:
        if f"browser.{name}.longest_freeze" not in results.figures:
            continue
        freeze, calm, still, shift, least, most = (results.figures[f"browser.{name}.{figure}"] for figure in _COLUMNS)
        missed = " **missed**" if least.missed or most.missed else ""
        rows.append(
            f"| {FAULTS[name].title} | {freeze.goal:.0f} ms | {marked(freeze)} | {calm.value:.0f} ms | "
            f"{still.value:.0f} ms | {shift.goal:.0f} ms | {marked(shift)} | {least.goal:.0f} to {most.goal:.0f} ms | "
            f"{least.value:.0f} to {most.value:.0f} ms{missed} |"
        )
    head = (
        "| network, seen in Chromium | freeze, promised | measured | calm | no new frame | A/V shift, promised | "
        "measured | sound after picture, promised | measured |"
    )
    return [head, "|---|---|---|---|---|---|---|---|---|", *rows] if rows else []
