"""How fast `prepare grid` is, and that killing it or running it on Ray changes no byte.

    python benchmarks/bench_prepare.py --grid GRID/train --face-landmarker face_landmarker.task --json R.json

Runs the command itself: once undisturbed (the speed), once killed outright (SIGKILL to the whole process group) while
clips are staged and then continued, once with `--engine ray`. Shards, sidecars and manifest are compared byte by byte.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from model.results import Figure, new_results, write_results

VARYING = {"run.json", ".lock", "report.html"}
POLL_S = 0.05
DEADLINE_S = 1800.0


def main() -> int:
    """Run everything, print the figures, and write them where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--grid", type=Path, required=True)
    parser.add_argument("--face-landmarker", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--compared-clips", type=int, default=24, help="clips of the killed and the Ray run")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        figures = measure(given, Path(root))
    for name, figure in figures.items():
        print(f"{name:32s} {figure.value:9.2f} {figure.unit}" + ("  MISSED" if figure.missed else ""))
    if given.json:
        command = f"python benchmarks/bench_prepare.py --clips {given.clips} --compared-clips {given.compared_clips}"
        data = f"GRID s1 train, {given.clips} clips of 3 s; {given.compared_clips} of them killed, resumed and on Ray"
        write_results(given.json, new_results(figures, command=command, data=data))
    return 0


def measure(given: argparse.Namespace, root: Path) -> dict[str, Figure]:
    """All figures; folders are made below `root`."""
    run(given, root / "whole", given.clips)
    few = given.compared_clips
    run(given, root / "few", few)
    killed_at = kill_and_resume(given, root / "killed", few)
    run(given, root / "ray", few, "--engine", "ray")
    wanted = contents(root / "few")
    return {
        "clips_per_minute": Figure(value=speed(root / "whole"), unit="clips/min", better="higher"),
        "video_seconds_per_second": Figure(value=speed(root / "whole") * 3 / 60, unit="1", better="higher"),
        "clips_per_minute_ray": Figure(value=speed(root / "ray"), unit="clips/min", better="higher"),
        "clips_done_when_killed": Figure(value=float(killed_at), unit="clips", better="higher"),
        "files_that_differ_after_kill": Figure(
            value=float(different(contents(root / "killed"), wanted)), unit="files", goal=0.0, better="lower"
        ),
        "files_that_differ_on_ray": Figure(
            value=float(different(contents(root / "ray"), wanted)), unit="files", goal=0.0, better="lower"
        ),
        "mebibytes_per_hour": Figure(value=hourly_mebibytes(root / "whole", given.clips), unit="MiB", better="lower"),
    }


def command(given: argparse.Namespace, out: Path, clips: int, *more: str) -> list[str]:
    """The command line of one run."""
    options = ["--workers", "2", "--sample", str(clips), "--shard-clips", "10" if clips < 50 else "100", *more]
    task = ["--face-landmarker", str(given.face_landmarker)]
    return [
        sys.executable,
        "-m",
        "stream_server",
        "prepare",
        "grid",
        str(given.grid),
        "--out",
        str(out),
        *task,
        *options,
    ]


def run(given: argparse.Namespace, out: Path, clips: int, *more: str) -> None:
    """One undisturbed run."""
    subprocess.run(command(given, out, clips, *more), check=True, stderr=subprocess.DEVNULL, timeout=DEADLINE_S)


def kill_and_resume(given: argparse.Namespace, out: Path, clips: int) -> int:
    """Kill a run in its middle and finish it; returns how many clips were staged or packed when it died."""
    process = subprocess.Popen(command(given, out, clips), stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + DEADLINE_S
    while (done := finished_clips(out)) < clips // 2:
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"the run ended after {done} clips before it could be killed")
        time.sleep(POLL_S)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    run(given, out, clips)
    return done


def finished_clips(out: Path) -> int:
    """Clips in finished shards and in staging."""
    packed = sum(len(json.loads(p.read_text())["clips"]) for p in out.glob("shard-*.json"))
    return packed + len(list(out.glob(".staging/*/*.tar")))


def contents(folder: Path) -> dict[str, bytes]:
    """Files that must not depend on how the run went."""
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file() and p.name not in VARYING}


def different(found: dict[str, bytes], wanted: dict[str, bytes]) -> int:
    """How many files are missing, too many, or other than wanted."""
    return sum(found.get(name) != wanted.get(name) for name in found.keys() | wanted.keys())


def speed(folder: Path) -> float:
    """Clips per minute of the last run."""
    return float(json.loads((folder / "run.json").read_text())["runs"][-1]["clips_per_minute"])


def hourly_mebibytes(folder: Path, clips: int) -> float:
    """Size of the shards for an hour of video in clips of three seconds."""
    size = sum(p.stat().st_size for p in folder.glob("shard-*.tar"))
    return size / 2**20 / (clips * 3) * 3600


if __name__ == "__main__":
    raise SystemExit(main())
