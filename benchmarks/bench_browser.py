"""Speak into the page in headless Chromium and measure what comes back.

    python benchmarks/bench_browser.py --size 256 --size 128 --json benchmarks/results/browser_loopback.json

Figures of the first size have plain names, those of the others begin with theirs. `mouth_as_expected` correlates the
mouth on the page with the same models run offline on the same captured sound. Needs Chromium; `NERF_LIPSYNC_DATA`
gives the microphone real speech. Shares its code with `tests/browser`.
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
from tests.browser.expected_mouth import mouth_as_expected
from tests.browser.harness import Measured, call_and_measure, microphone_source, microphone_wav
from tests.stream_server.server_process import ServerProcess
from tests.support.chromium import find_chromium


def figures(measured: Measured, expected_r: float | None, prefix: str = "") -> dict[str, Figure]:
    """The figures that are kept, by name."""
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
    }
    if expected_r is not None:
        made["mouth_as_expected"] = Figure(value=expected_r, unit="r", goal=0.6, better="higher")
    for stage, value in measured.server_ms.items():
        made[f"server_{stage.replace('+', '_')}"] = Figure(value=value, unit="ms", better="lower")
    return {prefix + name: figure for name, figure in made.items()}


def call(chromium: str, size: int, options: argparse.Namespace) -> Measured:
    """One call at this size, in a browser and a server of its own."""
    with tempfile.TemporaryDirectory() as folder:
        microphone = microphone_wav(Path(folder, "microphone.wav"))
        arguments = ("--timecode", "--size", str(size))
        with ServerProcess(*arguments, pipeline=options.pipeline, timeout_s=180) as server:
            print(server.ready_line)
            with Chromium(chromium, microphone) as browser:
                measured = call_and_measure(browser, server, seconds=options.seconds)
                if options.screenshot is not None:
                    browser.screenshot(options.screenshot)
    print("\n".join(measured.lines()))
    return measured


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--size", type=int, action="append", help="picture size; may be repeated")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--screenshot", type=Path)
    parser.add_argument("--pipeline", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    path = find_chromium()
    if path is None:
        print("no Chromium is installed", file=sys.stderr)
        return 2
    made: dict[str, Figure] = {}
    for size in options.size or [256]:
        measured = call(path, size, options)
        if "p50" not in measured.latency_ms:
            print("the stream was torn (is the machine busy?): nothing is recorded", file=sys.stderr)
            return 1
        expected_r = mouth_as_expected(measured.traces) if options.pipeline is None else None
        made |= figures(measured, expected_r, f"size_{size}." if made else "")
    if options.json is not None:
        command = f"python benchmarks/bench_browser.py --seconds {options.seconds:g} " + " ".join(
            f"--size {size}" for size in options.size or [256]
        )
        data = f"{microphone_source()} as Chromium's microphone, stock headless Chromium on the same machine"
        write_results(options.json, new_results(made, command=command, data=data))
    return 0


if __name__ == "__main__":
    sys.exit(main())
