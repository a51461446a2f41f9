"""`nerf-lipsync evaluate table`: the paper's evaluation with ours beside it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer


def table(
    grid: Annotated[Path, typer.Option(help="prepared GRID: folders `train` and `val` (with --pictures)")],
    work: Annotated[Path, typer.Option(help="folder where finished rows are kept: the same call goes on from there")],
    json: Annotated[Path | None, typer.Option(help="results file to write")] = None,
    markdown: Annotated[Path | None, typer.Option(help="the table as a page")] = None,
    others: Annotated[Path | None, typer.Option(help="prepared clips of other speakers")] = None,
    speech: Annotated[Path | None, typer.Option(help="folder of speech without video (LibriSpeech)")] = None,
    capture: Annotated[Path | None, typer.Option(help="rendered capture folder (with --ict)")] = None,
    ict: Annotated[Path | None, typer.Option(help="ICT-FaceKit: its checkout, FaceXModel folder, or npz")] = None,
    decoder: Annotated[
        Path | None, typer.Option(help="with --capture: weights by `train decoder2d`, for the rows without a field")
    ] = None,
    avatar: Annotated[Path | None, typer.Option(help="an avatar of GRID's speaker (with --made-from)")] = None,
    made_from: Annotated[Path | None, typer.Option(help="the prepared clips it was made from")] = None,
    identity: Annotated[Path | None, typer.Option(help="face embedder, ONNX: MobileFaceNet or ArcFace")] = None,
    clips: Annotated[int | None, typer.Option(min=2, help="so many of GRID val for motion; all if not given")] = None,
    picture_clips: Annotated[int, typer.Option(min=2, help="so many of GRID val for pictures")] = 6,
    frames: Annotated[int | None, typer.Option(min=10, help="so many frames of each video for pictures")] = None,
    speech_clips: Annotated[int, typer.Option(min=2, help="so many sounds of --speech")] = 14,
    draws: Annotated[int, typer.Option(min=2, max=64, help="samples of each clip at temperature 1")] = 8,
    teacher_draws: Annotated[
        int, typer.Option(min=0, max=64, help="the same of the teacher; 0 leaves its rows out")
    ] = 2,
    rows: Annotated[
        list[str] | None,
        typer.Option(help="compute this row alone, by its name in the table, beside those that are done; repeatable"),
    ] = None,
    known: Annotated[
        Path | None, typer.Option(help="results file of an earlier run: its rows are not made again where all is equal")
    ] = None,
    finished_only: Annotated[bool, typer.Option(help="compute nothing: the table of the rows that are done")] = False,
    face_landmarker: Annotated[
        Path | None,
        typer.Option(
            envvar="NERF_LIPSYNC_FACE_LANDMARKER",
            help="MediaPipe face_landmarker.task; without it the cached or fetched one",
        ),
    ] = None,
    committed: Annotated[
        Path, typer.Option(help="folder of results files that the page's other blocks come from")
    ] = Path("benchmarks/results"),
) -> None:
    """The paper's Table 1, then every row of ours beside truth and controls, in motion and in pictures; resumable."""
    import torch

    from model.evaluation.identity import FaceEmbedder
    from model.evaluation.learned_metrics import LearnedMetrics
    from model.evaluation.protocols import Scorers
    from model.evaluation.row_store import RowPlace
    from model.evaluation.table_evaluation import TableEvaluation, evaluate_table, known_rows
    from model.evaluation.table_page import ALL_ROWS, table_page
    from model.face.model_files import FACE_LANDMARKER, default_cache, find_model_file
    from model.results import read_results, write_results

    if decoder is not None and capture is None:
        raise typer.BadParameter("--decoder needs --capture")
    if (capture is None) != (ict is None) or (avatar is None) != (made_from is None):
        raise typer.BadParameter("--capture needs --ict, and --avatar needs --made-from")
    unknown = sorted(set(rows or ()) - set(ALL_ROWS))
    if unknown:
        raise typer.BadParameter(f"no row is called {unknown[0]!r}: {'; '.join(dict.fromkeys(ALL_ROWS))}")
    if known is not None:
        typer.echo(f"... {known_rows(read_results(known), work)} rows of {known}", err=True)
    torch.set_num_threads(1)
    task_file = find_model_file(
        FACE_LANDMARKER, face_landmarker, cache=default_cache(os.environ, Path.home()), download=True
    )
    config = TableEvaluation(
        grid=grid,
        work=RowPlace(work, finished_only, frozenset(rows or ())),
        face_landmarker=task_file,
        others=others,
        speech=speech,
        capture=capture,
        ict=ict,
        decoder=decoder,
        avatar=avatar,
        made_from=made_from,
        scorers=Scorers(LearnedMetrics(), FaceEmbedder(identity) if identity is not None else None),
        clips=clips,
        picture_clips=picture_clips,
        frames=frames,
        speech_clips=speech_clips,
        draws=draws,
        teacher_draws=teacher_draws,
        committed=committed,
    )
    given = {
        "--others OTHERS": others,
        "--speech SPEECH": speech,
        "--capture CAPTURE --ict ICT": capture,
        "--decoder DECODER": decoder,
        "--avatar AVATAR --made-from TRAINED": avatar,
        "--identity ONNX": identity,
    }
    command = "nerf-lipsync evaluate table --grid GRID --work WORK"
    command += "".join(f" {text}" for text, value in given.items() if value is not None)
    command += f" --frames {frames}" if frames is not None else ""
    command += f" --picture-clips {picture_clips} --draws {draws} --teacher-draws {teacher_draws}"
    results = evaluate_table(config, lambda row: typer.echo(f"... {row}", err=True), command=command)
    if json is not None:
        write_results(json, results)
    page = table_page(results, committed)
    if markdown is not None:
        markdown.write_text(page, encoding="utf-8")
    typer.echo(page)


def register(group: typer.Typer) -> None:
    """Add the command to the `evaluate` group."""
    group.command()(table)
