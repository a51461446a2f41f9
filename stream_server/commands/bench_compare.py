"""`nerf-lipsync bench compare`: what `make bench` runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from model.results import Figure

BASELINE = Path("benchmarks/results/baseline_ratios.json")
_ROUNDS = 25


def compare(
    baseline: Annotated[Path, typer.Option(help="committed ratios")] = BASELINE,
    tolerance: Annotated[float, typer.Option(min=0, help="how much worse a ratio may be, as a share")] = 0.25,
    seconds: Annotated[float, typer.Option(min=1, help="signal and call to measure")] = 4.0,
    write: Annotated[bool, typer.Option("--write", help="make what is measured now the baseline")] = False,
    call: Annotated[bool, typer.Option(help="also call a server of our own")] = True,
) -> None:
    """Kernels, pipeline and a call in a minute: ratios against the baseline; exits with 1 if one is worse."""
    from model.results import new_results, read_results, write_results
    from stream_server.bench.compare import changes, table

    now = _measure(seconds, call=call)
    if write:
        command = f"nerf-lipsync bench compare --write --seconds {seconds:g}"
        write_results(baseline, new_results(now, command=command, data="synthetic speech, default avatar, 128 px"))
        typer.echo(f"wrote {len(now)} ratios to {baseline}")
        return
    then = read_results(baseline).figures
    found = changes(then, now)
    typer.echo("\n".join(table(found, sorted(then.keys() - now.keys()), tolerance)))
    if any(change.worse > tolerance for change in found):
        raise typer.Exit(1)


def _measure(seconds: float, *, call: bool) -> dict[str, Figure]:
    import torch

    from stream_server.bench.ratios import call_ratios, ear_ratios, kernel_ratios, pipeline_ratios
    from stream_server.commands.bench_encoder import new_encoder

    torch.set_num_threads(1)
    figures = kernel_ratios(_ROUNDS) | ear_ratios(_ROUNDS) | pipeline_ratios(new_encoder, seconds)
    return figures | (call_ratios(seconds) if call else {})


def register(app: typer.Typer) -> None:
    """Add the command to the group `bench`."""
    app.command()(compare)
