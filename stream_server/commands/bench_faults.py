"""`nerf-lipsync bench faults`: calls over bad networks, by processes that stop, and in a real browser."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream_server.commands.bench_calls import (
    OWN_SIZE,
    SHARED,
    Audio,
    Json,
    OwnSize,
    Pipeline,
    Steps,
    Token,
    only_of_our_own,
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
    size: OwnSize = None,
    steps: Steps = 1,
    only: Annotated[list[str] | None, typer.Option("--fault", help="names of faults; all if not given")] = None,
    browser: Annotated[bool, typer.Option("--browser", help="also in Chromium, through the same relay")] = False,
    browser_only: Annotated[bool, typer.Option("--browser-only", help="in Chromium, and not else")] = False,
    calls: Annotated[int, typer.Option(min=1, help="calls in Chromium for each fault; the worst counts")] = 1,
    json: Json = None,
    pipeline: Pipeline = None,
) -> None:
    """Call over bad networks and with processes that stop: what freezes, does sound stay in place?"""
    from stream_server.bench.browser_faults import browser_fault_figures
    from stream_server.bench.fault_report import fault_details, fault_figures
    from stream_server.bench.faults import FAULTS, PROCESS_FAULTS

    only_of_our_own(url, {"--size": size})
    size = size or OWN_SIZE
    names = list(only or (FAULTS if url else [*FAULTS, *PROCESS_FAULTS]))
    _check(names, url)
    voice, seen = voice_of(audio), {}
    with own_server(url, size, "--steps", str(steps), pipeline=pipeline) as (at, pid):
        found = {} if browser_only else {name: _run(name, at, pid, voice, token) for name in names}
        if browser or browser_only:
            seen = _run_browser(names, at, voice, calls)
    figures = fault_figures(found) | browser_fault_figures(seen)
    show(figures)
    command = "nerf-lipsync bench faults" + ("" if url else f" --size {size} --steps {steps}")
    command += "".join(f" --fault {name}" for name in only or []) + (" --browser" if browser else "")
    command += f" --browser-only --calls {calls}" if browser_only else ""
    each = {f"browser.{name}.{call}": one for name, many in seen.items() for call, one in enumerate(many)}
    caller = "Chromium" if browser_only else "aiortc"
    write(json, figures, command, f"{voice_name(audio)}, one caller ({caller}); {SHARED}", fault_details(found | each))


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


def _run_browser(names: list[str], url: str, voice: NDArray[np.int16], calls: int) -> dict[str, list[FaultMeasures]]:
    from stream_server.bench.browser_faults import BROWSER_FAULTS, run_browser_fault
    from stream_server.bench.chromium import find_chromium
    from stream_server.bench.errors import BenchError
    from stream_server.bench.faults import FAULTS
    from stream_server.bench.voice import write_voice

    executable = find_chromium(os.environ.get("NERF_LIPSYNC_CHROMIUM"))
    if executable is None:
        raise BenchError("no Chromium is installed, or NERF_LIPSYNC_CHROMIUM names none")
    seen: dict[str, list[FaultMeasures]] = {}
    with tempfile.TemporaryDirectory() as folder:
        microphone = Path(folder, "voice.wav")
        write_voice(microphone, voice)
        for name in (one for one in names if one in BROWSER_FAULTS):
            for _ in range(calls):
                run = run_browser_fault(url, executable, microphone, FAULTS[name].impairment)
                seen.setdefault(name, []).append(asyncio.run(run))
    return seen


def register(app: typer.Typer) -> None:
    """Add the command to the group `bench`."""
    app.command()(faults)
