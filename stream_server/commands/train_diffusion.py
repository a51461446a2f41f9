"""`nerf-lipsync train motion | distill | ablation`: the motion diffusion, its student, and what its parts are worth.

Several processes train together under torchrun: `torchrun --nproc-per-node 4 -m stream_server train motion ...`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream_server.commands.encoder import Whisper, whisper_path

if TYPE_CHECKING:
    from model.training.distributed import Distributed
    from model.training.motion import MotionSources, MotionTrainConfig
    from model.training.motion_data import HearingConfig
    from model.training.rendered_phase import RenderedPhase

Grid = Annotated[Path, typer.Option(help="prepared GRID: folders `train` and `val`")]
Corpus = Annotated[Path, typer.Option(help="corpus made by `prepare voices`")]
Out = Annotated[Path, typer.Option(help="folder of the weights: speech encoder, VAE and co-articulation lie there")]
Preset = Annotated[str, typer.Option(help="lite, ablation or paper")]
Config = Annotated[Path | None, typer.Option(help="TOML instead of a preset")]
Runs = Annotated[Path, typer.Option(help="folder for curves and resumable state")]
Heard = Annotated[Path, typer.Option(help="folder where what was heard is kept")]
Threads = Annotated[int, typer.Option(min=1, help="torch threads")]

HEARD = Path("runs/heard")


def motion(
    grid: Grid,
    corpus: Corpus,
    out: Out,
    preset: Preset = "lite",
    config: Config = None,
    runs: Runs = Path("runs/motion"),
    heard: Heard = HEARD,
    threads: Threads = 1,
    whisper: Whisper = None,
    rendered_critic: Annotated[
        Path | None, typer.Option(help="of `train rendered-sync`: judges rendered mouths in the last phase")
    ] = None,
    face_network: Annotated[
        Path | None, typer.Option(help="ArcFace or MobileFaceNet (ONNX): judges rendered faces in the last phase")
    ] = None,
) -> None:
    """Train the motion diffusion: a teacher, or the deterministic twin if the config says so."""
    from model.config import load_toml
    from model.training.distributed import Distributed
    from model.training.motion import MotionTrainConfig, train_motion
    from model.training.presets import motion_preset

    _set_threads(threads)
    settings = load_toml(MotionTrainConfig, config) if config else motion_preset(preset)
    name = "motion_teacher" if settings.model.process == "flow" else "motion"
    with Distributed.from_environment(os.environ) as processes:
        sources = _sources(grid, corpus, out, heard, settings.hearing, whisper, processes)
        shown = _rendered(grid, sources, settings, rendered_critic, face_network)
        done = train_motion(sources, out / f"{name}.safetensors", settings, runs, distributed=processes, rendered=shown)
        if processes.is_main:
            typer.echo(done)


def distill(
    grid: Grid,
    corpus: Corpus,
    out: Out,
    config: Config = None,
    runs: Runs = Path("runs/distill"),
    heard: Heard = HEARD,
    threads: Threads = 1,
    whisper: Whisper = None,
    start_from: Annotated[
        Path | None, typer.Option(help="earlier student to go on from; the teacher's weights")
    ] = None,
) -> None:
    """Distil the teacher in the folder into the student that is served in 1, 2 or 4 steps."""
    from model.config import load_toml
    from model.training.distill import DistillConfig, train_distill
    from model.training.distributed import Distributed
    from model.training.motion_data import HearingConfig

    _set_threads(threads)
    settings = load_toml(DistillConfig, config) if config else DistillConfig()
    files = (out / "motion_teacher.safetensors", out / "motion.safetensors")
    with Distributed.from_environment(os.environ) as processes:
        sources = _sources(grid, corpus, out, heard, HearingConfig(), whisper, processes)
        done = train_distill(sources, *files, settings, runs, start_from=start_from, distributed=processes)
        if processes.is_main:
            typer.echo(done)


def ablation(
    grid: Grid,
    out: Annotated[Path, typer.Option(help="folder of the variants")],
    models: Annotated[Path | None, typer.Option(help="folder of speech encoder and VAE; the shipped ones")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="steps of each; the preset's if not given")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="trainings of each variant")] = 3,
    threads: Threads = 1,
) -> None:
    """Train every variant of the ablation table, small, for several seeds; finished ones are kept."""
    from dataclasses import replace

    from model.motion_stack import ASSETS
    from model.training.ablation import train_ablation
    from model.training.presets import motion_preset

    _set_threads(threads)
    settings = motion_preset("ablation")
    if steps is not None:
        settings = replace(settings, run=replace(settings.run, steps=steps))
    train_ablation(
        grid,
        models or ASSETS,
        out,
        settings,
        seeds=range(seeds),
        on_run=lambda done, total, name: typer.echo(f"{done} of {total}: {name}"),
    )


def _sources(
    grid: Path,
    corpus: Path,
    out: Path,
    heard: Path,
    hearing: HearingConfig,
    whisper: str | None,
    processes: Distributed,
) -> MotionSources:
    from model.training.motion import load_sources

    return load_sources(
        grid,
        corpus,
        out / "speech.safetensors",
        out / "motion_vae.safetensors",
        heard,
        hearing,
        coarticulation=out / "coarticulation.safetensors",
        whisper=whisper_path(whisper),
        distributed=processes,
    )


def _rendered(
    grid: Path,
    sources: MotionSources,
    settings: MotionTrainConfig,
    critic: Path | None,
    face_network: Path | None,
) -> RenderedPhase | None:
    """Losses on the default avatar's pictures, if any are asked for."""
    if critic is None and face_network is None:
        return None
    from model.avatar import load_avatar
    from model.motion.space import load_motion_space
    from model.training.rendered_losses import RenderedLossConfig, load_rendered_losses
    from model.training.rendered_phase import RenderedPhase, RenderedPhaseConfig, filmed_log_mel

    avatar = load_avatar(None, motion_space=load_motion_space().hash)
    losses = load_rendered_losses(avatar, RenderedLossConfig(), critic=critic, face_network=face_network)
    sound_of = filmed_log_mel(grid / "train", settings.hearing.hop_frames, 80)
    return RenderedPhase(losses, sound_of, len(sources.train["filmed"]), RenderedPhaseConfig())


def _set_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


def register(group: typer.Typer) -> None:
    """Add the commands to the `train` group."""
    group.command("motion")(motion)
    group.command("distill")(distill)
    group.command("ablation")(ablation)
