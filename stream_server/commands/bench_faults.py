"""`nerf-lipsync bench faults`: calls over bad networks, by processes that stop, and in a real browser."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream_server.commands.bench_calls import (
    SHARED,
    Audio,
    Json,
    Pipeline,
    Steps,
    Token,
    own_server,
    show,
    voice_name,
    voice_of,
    write,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stream_server.bench.faults import FaultMeasures


def faults(
    url: Annotated[str | None, typer.Option(help="server on this machine; one of our own if not given")] = None,
    token: Token = None,
    audio: Audio = None,
    size: Annotated[int, typer.Option(help="our own server: picture size")] = 128,
    steps: Steps = 1,
    only: Annotated[list[str] | None, typer.Option("--fault", help="names of faults; all if not given")] = None,
    browser: Annotated[bool, typer.Option("--browser", help="also in Chromium, through the same relay")] = False,
    json: Json = None,
    pipeline: Pipeline = None,
) -> None:
    """Call over bad networks and with processes that stop: what freezes, does sound stay in place?"""
    from stream_server.bench.browser_faults import browser_fault_figures
    from stream_server.bench.fault_report import fault_details, fault_figures
    from stream_server.bench.faults import FAULTS, PROCESS_FAULTS

    names = list(only or (FAULTS if url else [*FAULTS, *PROCESS_FAULTS]))
    _check(names, url)
    voice, seen = voice_of(audio), {}
    with own_server(url, size, "--steps", str(steps), pipeline=pipeline) as (at, pid):
        found = {name: _run(name, at, pid, voice, token) for name in names}
        if browser:
            seen = _run_browser(names, at, voice)
    figures = fault_figures(found) | browser_fault_figures(seen)
    show(figures)
    command = "nerf-lipsync bench faults" + ("" if url else f" --size {size} --steps {steps}")
    command += "".join(f" --fault {name}" for name in only or []) + (" --browser" if browser else "")
    details = fault_details(found | {f"browser.{name}": one for name, one in seen.items()})
    write(json, figures, command, f"{voice_name(audio)}, one caller (aiortc); {SHARED}", details)


def _check(names: list[str], url: str | None) -> None:
    from stream_server.bench.caller import is_local
    from stream_server.bench.errors import BenchError
    from stream_server.bench.faults import FAULTS, PROCESS_FAULTS

    known = [*FAULTS, *PROCESS_FAULTS]
    if unknown := [name for name in names if name not in known]:
        raise BenchError(f"no such fault: {unknown[0]}; there are {', '.join(known)}")
    if url is not None and not is_local(url):
        raise BenchError(f"the bad network is made on this machine, so the server must be here too, got {url}")
    if url is not None and (stopping := [name for name in names if name in PROCESS_FAULTS]):
        raise BenchError(f"{stopping[0]} stops processes: only of a server of our own (without --url)")


def _run(name: str, url: str, pid: int | None, voice: NDArray[np.int16], token: str | None) -> FaultMeasures:
    from stream_server.bench.faults import FAULTS, run_fault, run_process_fault

    if name in FAULTS:
        return asyncio.run(run_fault(url, voice, FAULTS[name].impairment, token=token))
    assert pid is not None
    return asyncio.run(run_process_fault(url, voice, name, server_pid=pid, token=token))


def _run_browser(names: list[str], url: str, voice: NDArray[np.int16]) -> dict[str, FaultMeasures]:
    from stream_server.bench.browser_faults import BROWSER_FAULTS, run_browser_fault
    from stream_server.bench.chromium import find_chromium
    from stream_server.bench.errors import BenchError
    from stream_server.bench.faults import FAULTS
    from stream_server.bench.voice import write_voice

    executable = find_chromium(os.environ.get("NERF_LIPSYNC_CHROMIUM"))
    if executable is None:
        raise BenchError("no Chromium is installed, or NERF_LIPSYNC_CHROMIUM names none")
    seen = {}
    with tempfile.TemporaryDirectory() as folder:
        microphone = Path(folder, "voice.wav")
        write_voice(microphone, voice)
        for name in (one for one in names if one in BROWSER_FAULTS):
            run = run_browser_fault(url, executable, microphone, FAULTS[name].impairment)
            seen[name] = asyncio.run(run)
    return seen


def register(app: typer.Typer) -> None:
    """Add the command to the group `bench`."""
    app.command()(faults)
