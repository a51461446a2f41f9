"""`nerf-lipsync evaluate distillation | ablation | languages | streaming | drift | side-by-side`: the motion model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from model.results import Results

GridOption = Annotated[Path, typer.Option(help="prepared GRID: folders `train` and `val`")]
JsonOption = Annotated[Path | None, typer.Option(help="results file to write")]
TeacherOption = Annotated[
    Path | None, typer.Option(help="motion checkpoint of the teacher; the shipped one if not given")
]
StudentOption = Annotated[
    Path | None, typer.Option(help="motion checkpoint of the student; the shipped one if not given")
]


def distillation(
    grid: GridOption,
    json: JsonOption = None,
    teacher: TeacherOption = None,
    student: StudentOption = None,
    twin: Annotated[
        Path | None, typer.Option(help="motion checkpoint of a deterministic twin, to compare with")
    ] = None,
    teacher_steps: Annotated[int, typer.Option(min=1, max=50)] = 50,
    clips: Annotated[int, typer.Option(min=2, help="held-out clips")] = 42,
    draws: Annotated[int, typer.Option(min=2, max=64, help="samples of each clip at temperature 1")] = 8,
) -> None:
    """The student with 1, 2 and 4 steps against its teacher, and how much faster it is (needs pocketsphinx)."""
    import torch

    from model.evaluation.distillation_evaluation import STUDENT, TEACHER, DistillationEvaluation, evaluate_distillation

    torch.set_num_threads(1)
    config = DistillationEvaluation(
        grid=grid,
        teacher=teacher or TEACHER,
        student=student or STUDENT,
        twin=twin,
        teacher_steps=teacher_steps,
        clips=clips,
        draws=draws,
    )
    command = "nerf-lipsync evaluate distillation --grid GRID"
    command += "".join(
        f" {option} {word}"
        for option, word, path in (
            ("--teacher", "TEACHER", teacher),
            ("--student", "STUDENT", student),
            ("--twin", "TWIN", twin),
        )
        if path is not None
    )
    for option, value, usual in (("teacher-steps", teacher_steps, 50), ("clips", clips, 42), ("draws", draws, 8)):
        command += f" --{option} {value}" if value != usual else ""
    found = evaluate_distillation(config)
    _report(found.results(command=command, data=f"GRID s1 val, {clips} clips x {draws} draws"), json)


def ablation(
    grid: GridOption,
    runs: Annotated[Path, typer.Option(help="folder that `train ablation` wrote")],
    json: JsonOption = None,
    seeds: Annotated[int, typer.Option(min=1, help="trained seeds, from 0 on")] = 3,
    draws: Annotated[int, typer.Option(min=2, max=64, help="samples of each clip at temperature 1")] = 8,
) -> None:
    """What each part of the motion model is worth: variants of one small training, several seeds each."""
    import torch

    from model.evaluation.ablation import AblationEvaluation, ablation_results, evaluate_ablation

    torch.set_num_threads(1)
    found = evaluate_ablation(AblationEvaluation(grid=grid, runs=runs, seeds=tuple(range(seeds)), draws=draws))
    for line in found.lines():
        typer.echo(line)
    command = "nerf-lipsync evaluate ablation --grid GRID --runs RUNS"
    command += (f" --seeds {seeds}" if seeds != 3 else "") + (f" --draws {draws}" if draws != 8 else "")
    _report(ablation_results(found, command=command, data=f"GRID s1 val, {draws} draws, {seeds} seeds"), json)


def languages(
    grid: GridOption,
    json: JsonOption = None,
    steps: Annotated[int, typer.Option(min=1, max=50)] = 2,
    utterances: Annotated[int, typer.Option(min=2, help="of each language")] = 20,
) -> None:
    """Closures in five languages with exact phone times, and lips for held-out voices (needs all synthesisers)."""
    import torch

    from model.evaluation.languages import evaluate_languages

    torch.set_num_threads(1)
    command = f"nerf-lipsync evaluate languages --grid GRID --steps {steps}"
    command += f" --utterances {utterances}" if utterances != 20 else ""
    found = evaluate_languages(grid, steps=steps, utterances=utterances)
    data = f"synthetic speech, {utterances} utterances of each language; GRID s1 val in other voices"
    _report(found.results(command=command, data=data), json)


def streaming(
    clips: Annotated[Path, typer.Option(help="prepared clips whose speech is streamed")],
    json: JsonOption = None,
) -> None:
    """Whether batch, packets or a pause change a session's motion."""
    import torch

    from model.evaluation.streaming_motion import evaluate_streaming
    from model.results import new_results

    torch.set_num_threads(1)
    command = "nerf-lipsync evaluate streaming --clips CLIPS"
    _report(new_results(evaluate_streaming(clips), command=command, data=f"clips of {clips.name}"), json)


def drift(
    clips: Annotated[Path, typer.Option(help="prepared clips whose speech is repeated")],
    json: JsonOption = None,
    minutes: Annotated[int, typer.Option(min=3, max=120)] = 10,
) -> None:
    """Whether face and head stay what they were while the same minute of speech is served again and again."""
    import torch

    from model.evaluation.drift import evaluate_drift
    from model.results import new_results

    torch.set_num_threads(1)
    command = f"nerf-lipsync evaluate drift --clips CLIPS --minutes {minutes}"
    figures = evaluate_drift(clips, minutes=minutes)
    _report(new_results(figures, command=command, data=f"clips of {clips.name}, one minute repeated"), json)


def side_by_side(
    out: Annotated[Path, typer.Option(help="MP4 file to write")],
    audio: Annotated[Path | None, typer.Option(help="speech to show, or --grid with --clip")] = None,
    grid: Annotated[Path | None, typer.Option(help="prepared GRID: folders `train` and `val`")] = None,
    clip: Annotated[str, typer.Option(help="key of a clip of `val`; the first one if not given")] = "",
    compare: Annotated[
        Literal["steps", "temperature"], typer.Option(help="teacher and student; or the student's two ends")
    ] = "steps",
    teacher: TeacherOption = None,
    student: StudentOption = None,
    avatar: Annotated[Path | None, typer.Option(help="avatar folder; the default avatar if not given")] = None,
    size: Annotated[int, typer.Option(min=64, max=512)] = 256,
    seed: Annotated[int, typer.Option(help="of the noise, the same for all")] = 0,
) -> None:
    """A video of one avatar several times: tracked motion, the teacher's, the student's, with the sound."""
    import torch

    from model.evaluation.distillation_evaluation import STUDENT, TEACHER
    from model.evaluation.side_by_side import SideBySide, write_comparison

    torch.set_num_threads(1)
    if (audio is None) == (grid is None):
        raise typer.BadParameter("give --audio FILE, or --grid FOLDER with --clip KEY")
    request = SideBySide(
        audio=audio,
        grid=grid,
        clip=clip,
        compare=compare,
        avatar=avatar,
        size_px=size,
        seed=seed,
        teacher=teacher or TEACHER,
        student=student or STUDENT,
    )
    labels = write_comparison(out, request)
    typer.echo(f"{out}: {' | '.join(labels)}")


def _report(results: Results, json: Path | None) -> None:
    from model.results import write_results

    for name, figure in results.figures.items():
        typer.echo(f"{name:56s} {figure.value:9.3f} {figure.unit}" + ("  MISSED" if figure.missed else ""))
    if json is not None:
        write_results(json, results)


def register(group: typer.Typer) -> None:
    """Add the commands to the `evaluate` group."""
    for command in (distillation, ablation, languages, streaming, drift):
        group.command(command.__name__)(command)
    group.command("side-by-side")(side_by_side)
