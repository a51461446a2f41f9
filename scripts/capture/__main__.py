"""Renders a capture and packs it: `python -m scripts.capture --head ict_facekit.npz --out DIR`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from scripts.capture.errors import CaptureError, PlanError
from scripts.capture.head import HeadRig, load_head
from scripts.capture.pack import TIMES, pack
from scripts.capture.person import IDENTITY_WEIGHTS, SAMPLES, coefficient_names
from scripts.capture.plan import Plan, select_frames
from scripts.capture.plan_file import DEFAULT_PLAN, load_plan, plan_of_capture
from scripts.capture.render import RenderJob, render_frames, require_blender
from scripts.capture.store import CaptureFolder, RunSettings

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
CAPTURE_SIZE_PX = 320


class Part(StrEnum):
    """What to render; `stills` is the split `train`."""

    STILLS = "stills"
    ORBIT = "orbit"
    SEQUENCE = "sequence"
    NOVEL = "novel"
    ALL = "all"


@app.command()
def render(
    head: Annotated[Path, typer.Option(help="ict_facekit.npz, or a checkout of ICT-FaceKit")],
    out: Annotated[Path, typer.Option(help="capture folder; continues where it was interrupted")],
    motion: Annotated[
        Path | None,
        typer.Option(help="plan made by scripts.capture.motion, or a capture folder; else the default avatar's"),
    ] = None,
    part: Annotated[Part, typer.Option(help="which frames")] = Part.ALL,
    size: Annotated[int, typer.Option(min=32, max=4096, help="width and height, px")] = CAPTURE_SIZE_PX,
    samples: Annotated[int, typer.Option(min=1, max=4096, help="per pixel, at most")] = SAMPLES,
    seed: Annotated[int, typer.Option(help="of the sampler's noise; nothing else depends on it")] = 0,
    workers: Annotated[int, typer.Option(min=1, max=256, help="processes, one thread and about 1 GiB each")] = 1,
    limit: Annotated[int | None, typer.Option(min=1, help="only the first so many of each split")] = None,
) -> None:
    """Render a capture of a person who does not exist, with exact labels (docs/capture.md)."""
    console = Console(stderr=True)
    mesh = load_head(head)
    rig = HeadRig(mesh, IDENTITY_WEIGHTS)
    plan = read_plan(motion, tuple(mesh.expressions))
    folder, settings = CaptureFolder(out), RunSettings.of(plan, size, samples, seed)
    frames = select_frames(plan, part.value, limit)
    pending = tuple(f for f in frames if not folder.has(f))
    if pending:
        require_blender()
    folder.begin(settings)
    job = RenderJob(
        head=head, out=out, size_px=size, samples=samples, seed=seed, names=plan.coefficient_names, frames=pending
    )
    console.print(f"{len(frames)} frames, {len(frames) - len(pending)} of them finished before")
    _render(job, workers, folder, console)
    counts = pack(folder, plan, rig, settings)
    console.print(f"{out}: " + ", ".join(f"{count} {split}" for split, count in counts.items() if count))


def read_plan(source: Path | None, shapes: tuple[str, ...]) -> Plan:
    """The plan to render, checked against the head's shapes.

    Raises:
        PlanError: It cannot be used.
    """
    if source is not None and source.is_dir():
        plan = plan_of_capture(source)
    else:
        plan = load_plan(source or DEFAULT_PLAN)
    if plan.coefficient_names != coefficient_names(shapes):
        missing = sorted(set(plan.coefficient_names) - set(shapes))
        raise PlanError(f"the plan's {len(plan.coefficient_names)} shapes are not the head's; the head lacks {missing}")
    return plan


def main(argv: Sequence[str] | None = None) -> int:
    """Run; returns the exit status."""
    try:
        app(args=list(argv) if argv is not None else None)
    except CaptureError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except SystemExit as ended:  # typer's own way out, after wrong arguments too
        return ended.code if isinstance(ended.code, int) else 1
    return 0


def _render(job: RenderJob, workers: int, folder: CaptureFolder, console: Console) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress, (folder.work / TIMES).open("a") as times:
        task = progress.add_task("rendering", total=len(job.frames))

        def on_done(name: str, seconds: float) -> None:
            times.write(f"{name} {seconds:.2f}\n")
            times.flush()
            progress.update(task, advance=1, description=name)

        render_frames(job, workers, on_done)


if __name__ == "__main__":
    sys.exit(main())
