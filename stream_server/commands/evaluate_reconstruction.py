"""`nerf-lipsync evaluate reconstruction`: a capture's sequences made again from their own sound."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from model.evaluation.protocols import Scorers
    from model.evaluation.reconstruction import Reconstruction
    from model.evaluation.tables import MetricTable

SHOWN = (
    "psnr_crop",
    "psnr_face",
    "psnr_mouth",
    "ssim_face",
    "lmd_mouth",
    "lmd_mouth_iod",
    "opening_r",
    "opening_r_spoken",
    "identity_cosine",
)
CROSS_SHOWN = ("lmd_cross", "lmd_cross_iod", "identity_cosine")
"""Columns that are printed; the results file has them all."""
DEFAULT_STEPS = 2


def reconstruction(
    capture: Annotated[Path | None, typer.Option(help="rendered capture folder with sequences and their sound")] = None,
    ict: Annotated[Path | None, typer.Option(help="ICT-FaceKit: its checkout, FaceXModel folder, or npz")] = None,
    clips: Annotated[
        Path | None, typer.Option(help="instead of a capture: clips prepared with --pictures, not trained on")
    ] = None,
    made_from: Annotated[
        Path | None, typer.Option(help="with --clips: the prepared clips that the avatar was made from")
    ] = None,
    most_clips: Annotated[int | None, typer.Option(min=1, help="with --clips: only so many, spread evenly")] = None,
    avatar: Annotated[Path | None, typer.Option(help="avatar folder; the shipped one if not given")] = None,
    models: Annotated[Path | None, typer.Option(help="folder of speech and motion weights; the shipped ones")] = None,
    grid: Annotated[Path | None, typer.Option(help="prepared GRID: names the sounds that were trained on")] = None,
    steps: Annotated[int, typer.Option(min=1, max=50, help="sampler steps")] = DEFAULT_STEPS,
    frames: Annotated[int | None, typer.Option(min=10, help="only the first so many frames of each sequence")] = None,
    face_landmarker: Annotated[
        Path | None,
        typer.Option(
            envvar="NERF_LIPSYNC_FACE_LANDMARKER",
            help="MediaPipe face_landmarker.task; without it the cached or fetched one",
        ),
    ] = None,
    identity: Annotated[Path | None, typer.Option(help="face embedder, ONNX: MobileFaceNet or ArcFace")] = None,
    inception: Annotated[Path | None, typer.Option(help="Inception-V3 weights of pytorch-fid: FID")] = None,
    alexnet: Annotated[Path | None, typer.Option(help="AlexNet weights of torchvision: LPIPS")] = None,
    lpips_heads: Annotated[Path | None, typer.Option(help="LPIPS v0.1 heads, alex.pth")] = None,
    videos: Annotated[
        Path | None, typer.Option(help="folder for side-by-side videos and results that name them")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="results file to write")] = None,
) -> None:
    """A capture's sequences made again from their sound, against its frames; beside it controls and the ceiling."""
    import torch

    from model.evaluation.reconstruction import (
        ReconstructionEvaluation,
        evaluate_reconstruction,
        reconstruction_results,
        write_videos,
    )
    from model.face.model_files import FACE_LANDMARKER, default_cache, find_model_file
    from model.motion_stack import ASSETS
    from model.results import write_results

    torch.set_num_threads(1)
    task_file = find_model_file(
        FACE_LANDMARKER, face_landmarker, cache=default_cache(os.environ, Path.home()), download=True
    )
    config = ReconstructionEvaluation(
        capture=capture,
        ict=ict,
        filmed=clips,
        made_from=made_from,
        keys=spread_keys(clips, most_clips),
        face_landmarker=task_file,
        scorers=_scorers(identity, inception, alexnet, lpips_heads),
        avatar=avatar,
        models=models or ASSETS,
        steps=steps,
        frames=frames,
        trained_on=grid / "train" if grid is not None else None,
    )
    found = evaluate_reconstruction(config, lambda row: typer.echo(f"... {row}", err=True))
    _print_table(found.table, SHOWN)
    if found.cross is not None:
        _print_table(found.cross, CROSS_SHOWN)
    options = {
        "--avatar AVATAR": avatar,
        "--models MODELS": models,
        "--grid GRID": grid,
        "--identity ONNX": identity,
        "--inception INCEPTION": inception,
        "--alexnet ALEXNET --lpips-heads HEADS": alexnet,
        f"--most-clips {most_clips}": most_clips,
        f"--frames {frames}": frames,
        f"--steps {steps}": steps if steps != DEFAULT_STEPS else None,
    }
    given = "".join(f" {text}" for text, value in options.items() if value is not None)
    source = "--clips CLIPS --made-from TRAINED" if clips is not None else "--capture CAPTURE --ict ICT"
    command = f"nerf-lipsync evaluate reconstruction {source} --face-landmarker TASK{given}"
    data = _data(found, "filmed clips" if clips is not None else "rendered capture")
    if videos is not None:
        beside = videos / (json.name if json is not None else "reconstruction.json")
        records = write_videos(found, beside)
        write_results(beside, reconstruction_results(found, command=command, data=data, videos=records))
    if json is not None:
        write_results(json, reconstruction_results(found, command=command, data=data))


def _scorers(identity: Path | None, inception: Path | None, alexnet: Path | None, heads: Path | None) -> Scorers:
    from model.evaluation.identity import FaceEmbedder
    from model.evaluation.learned_metrics import LearnedMetrics
    from model.evaluation.protocols import Scorers

    learned = LearnedMetrics(inception=inception, alexnet=alexnet, lpips_heads=heads)
    return Scorers(learned, FaceEmbedder(identity) if identity is not None else None)


def spread_keys(clips: Path | None, most: int | None) -> tuple[str, ...]:
    """Keys of at most `most` clips, evenly spread over the folder's; none named means all."""
    if clips is None or most is None:
        return ()
    from model.data.preparing import read_shards

    keys = sorted(sample.key for sample in read_shards(clips))
    return tuple(keys[i * len(keys) // most] for i in range(min(most, len(keys))))


def _data(found: Reconstruction, kind: str) -> str:
    sizes = sorted({len(clip.motion) for clip in found.clips})
    frames = " or ".join(str(size) for size in sizes)
    names = ", ".join(clip.name for clip in found.clips)
    return f"{kind}, {len(found.clips)} sequences of {frames} frames at 25 fps: {names}"


def _print_table(table: MetricTable, names: tuple[str, ...]) -> None:
    """Means over videos, a row for each method, and the videos of the tested row one by one."""
    shown = [name for name in names if any(metric.name == name for metric in table.metrics)]
    typer.echo(f"\n{table.title}")
    typer.echo(" " * 32 + "".join(f"{name:>17s}" for name in shown))
    for method in table.methods:
        cells = (table.estimate(method, name) for name in shown)
        row = (f"{cell.mean:17.3f}" if cell is not None and cell.clips else " " * 16 + "-" for cell in cells)
        typer.echo(f"{method:32s}" + "".join(row))
    if table.reference is not None:
        for index, clip in enumerate(table.clips):
            values = (table.values[table.reference][name][index] for name in shown)
            typer.echo(f"{f'  {table.reference}: {clip}':32s}" + "".join(f"{value:17.3f}" for value in values))
    for note in table.notes:
        typer.echo(note)


def register(group: typer.Typer) -> None:
    """Add the command to the `evaluate` group."""
    group.command()(reconstruction)
