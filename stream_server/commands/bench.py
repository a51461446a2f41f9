"""`nerf-lipsync bench`: one subcommand each, importing what it needs when it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stream_server.commands import bench_calls, bench_compare, bench_endurance, bench_faults
from stream_server.commands.bench_encoder import new_encoder

app = typer.Typer(no_args_is_help=True)


@app.callback()
def bench() -> None:
    """Measure speed; results are JSON files."""


@app.command()
def pipeline(
    json: Annotated[Path | None, typer.Option(help="results file to write")] = None,
    seconds: Annotated[float, typer.Option(min=1, help="length of the signal per variant")] = 12.0,
) -> None:
    """Milliseconds per stage and sustained fps, with the best kernel and with AVX2 forced."""
    import torch

    from model.evaluation.pipeline_bench import bench_pipeline
    from model.results import new_results, write_results

    torch.set_num_threads(1)
    figures = bench_pipeline(new_encoder, seconds=seconds)
    for name, figure in figures.items():
        typer.echo(f"{name:40s} {figure.value:8.2f} {figure.unit}" + ("  MISSED" if figure.missed else ""))
    if json is not None:
        data = "synthetic syllables, default avatar"
        write_results(
            json, new_results(figures, command=f"nerf-lipsync bench pipeline --seconds {seconds:g}", data=data)
        )


def register(parent: typer.Typer) -> None:
    """Add the group to the application."""
    bench_calls.register(app)
    bench_faults.register(app)
    bench_endurance.register(app)
    bench_compare.register(app)
    parent.add_typer(app, name="bench")
