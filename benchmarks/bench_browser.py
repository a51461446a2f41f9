"""Speak into the page in headless Chromium and measure what comes back.

    python benchmarks/bench_browser.py --json benchmarks/results/browser_loopback.json

Needs Chromium; `NERF_LIPSYNC_DATA` gives the microphone real speech. Shares its code with `tests/browser`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from model.results import Figure, new_results, write_results
from tests.browser.chromium import Chromium
from tests.browser.harness import Measured, call_and_measure, microphone_source, microphone_wav
from tests.stream_server.server_process import ServerProcess
from tests.support.chromium import find_chromium


def figures(measured: Measured) -> dict[str, Figure]:
    """The figures that are kept."""
    own = {name: measured.latency_ms[name] - measured.algorithmic_ms for name in ("p50", "p95")}
    offset = np.abs(measured.av_offset_ms)
    made = {
        "connect": Figure(value=measured.connect_s, unit="s", goal=5.0, better="lower"),
        "fps": Figure(value=measured.fps, unit="fps", goal=24.0, better="higher"),
        "av_offset_median": Figure(value=float(np.median(offset)), unit="ms", goal=60.0, better="lower"),
        "av_offset_worst": Figure(value=float(offset.max()), unit="ms", better="lower"),
        "algorithmic_delay": Figure(value=measured.algorithmic_ms, unit="ms", better="lower"),
        "microphone_to_frame_own_p50": Figure(value=own["p50"], unit="ms", goal=120.0, better="lower"),
        "microphone_to_frame_own_p95": Figure(value=own["p95"], unit="ms", goal=230.0, better="lower"),
        "mouth_correlation": Figure(value=measured.mouth_r, unit="r", better="higher"),
        "mouth_lag": Figure(value=measured.mouth_lag_ms, unit="ms", better="lower"),
    }
    for stage, value in measured.server_ms.items():
        made[f"server_{stage.replace('+', '_')}"] = Figure(value=value, unit="ms", better="lower")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--screenshot", type=Path)
    parser.add_argument("--pipeline", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    path = find_chromium()
    if path is None:
        print("no Chromium is installed", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        microphone = microphone_wav(Path(folder, "microphone.wav"))
        arguments = ("--timecode", "--size", str(options.size))
        with ServerProcess(*arguments, pipeline=options.pipeline, timeout_s=180) as server:
            print(server.ready_line)
            with Chromium(path, microphone) as browser:
                measured = call_and_measure(browser, server, seconds=options.seconds)
                if options.screenshot is not None:
                    browser.screenshot(options.screenshot)
    print("\n".join(measured.lines()))
    if "p50" not in measured.latency_ms:
        print("the stream was torn (is the machine busy?): nothing is recorded", file=sys.stderr)
        return 1
    if options.json is not None:
        command = f"python benchmarks/bench_browser.py --seconds {options.seconds:g} --size {options.size}"
        data = f"{microphone_source()} as Chromium's microphone, stock headless Chromium on the same machine"
        write_results(options.json, new_results(figures(measured), command=command, data=data))
    return 0


if __name__ == "__main__":
    sys.exit(main())
