"""`nerf-lipsync bench latency`, `load`, `whep` and `faults`: measurements that call a running server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from pydantic import JsonValue

    from model.results import Figure
    from stream_server.bench.latency import CallMeasures

Url = Annotated[str | None, typer.Option(help="server to call; a `serve --timecode` of our own if not given")]
Token = Annotated[str | None, typer.Option(envvar="NERF_LIPSYNC_TOKEN", help="the server's token")]
Audio = Annotated[Path | None, typer.Option(help="speech to send, any sound file; synthetic speech if not given")]
Json = Annotated[Path | None, typer.Option(help="results file to write")]
Steps = Annotated[int, typer.Option(help="our own server: sampler steps per hop")]
Pipeline = Annotated[str | None, typer.Option(hidden=True, help="tests only: module:class of a stand-in")]
SHARED = "other programs ran on the machine; caller and server share it"


def latency(
    url: Url = None,
    token: Token = None,
    audio: Audio = None,
    seconds: Annotated[float, typer.Option(min=3, help="length of the measurement after 3 s of settling")] = 60.0,
    size: Annotated[list[int] | None, typer.Option(help="our own server: picture size; give it more than once")] = None,
    steps: Steps = 2,
    json: Json = None,
    pipeline: Pipeline = None,
) -> None:
    """Call the server, speak, and measure microphone to mouth, sound against picture, freezes and bytes."""
    from stream_server.bench.latency_report import call_details, call_figures

    voice = _voice(audio)
    figures: dict[str, Figure] = {}
    details: dict[str, JsonValue] = {}
    sizes = [None] if url is not None else list(size or [256])
    for one in sizes:
        arguments = [] if one is None else ["--size", str(one), "--steps", str(steps)]
        with _server(url, arguments, pipeline) as at:
            measured = asyncio.run(_one_call(at, token, voice, seconds))
        prefix = "" if len(sizes) == 1 else f"size_{one}."
        figures |= call_figures(measured, prefix)
        details[prefix or "call"] = call_details(measured)
    _show(figures)
    options = "".join(f" --size {one}" for one in sizes if one is not None) + ("" if url else f" --steps {steps}")
    command = f"nerf-lipsync bench latency --seconds {seconds:g}" + options
    _write(json, figures, command, f"{_name(audio)}, one caller (aiortc); {SHARED}", details)


async def _one_call(url: str, token: str | None, voice: NDArray[np.int16], seconds: float) -> CallMeasures:
    from stream_server.bench.caller import Caller
    from stream_server.bench.latency import talk_and_measure
    from stream_server.bench.voice import Microphone

    async with Caller(url, Microphone(voice), token=token) as caller:
        return await talk_and_measure(caller, seconds)


def _voice(audio: Path | None) -> NDArray[np.int16]:
    from stream_server.bench.voice import made_voice, read_voice

    return made_voice() if audio is None else read_voice(audio)


def _name(audio: Path | None) -> str:
    return "synthetic speech" if audio is None else f"speech from {audio.name}"


@contextlib.contextmanager
def _server(url: str | None, arguments: list[str], pipeline: str | None) -> Iterator[str]:
    """The URL given, or that of a server of our own."""
    if url is not None:
        yield url
        return
    from stream_server.bench.own_server import OwnServer

    with OwnServer(*arguments, *(["--pipeline", pipeline] if pipeline else [])) as server:
        typer.echo(server.ready_line)
        yield server.url


def _show(figures: dict[str, Figure]) -> None:
    for name, figure in figures.items():
        missed = "  MISSED" if figure.missed else ""
        typer.echo(f"{name:48s} {figure.value:10.2f} {figure.unit}{missed}")


def _write(json: Path | None, figures: dict[str, Figure], command: str, data: str, details: JsonValue) -> None:
    from model.results import new_results, write_results

    if json is not None:
        write_results(json, new_results(figures, command=command, data=data, details=details))


def register(app: typer.Typer) -> None:
    """Add the commands to the group `bench`."""
    app.command()(latency)
