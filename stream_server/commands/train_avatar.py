"""`nerf-lipsync train avatar` and `nerf-lipsync prepare capture`: the radiance field from a rendered capture."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

Capture = Annotated[Path | None, typer.Option(help="capture folder; $NERF_LIPSYNC_DATA/capture if not given")]
Ict = Annotated[Path | None, typer.Option(help="ICT-FaceKit arrays; $NERF_LIPSYNC_DATA/ict_facekit/ict_facekit.npz")]


def avatar(
    out: Annotated[Path, typer.Option(help="avatar folder to write")],
    capture: Capture = None,
    ict: Ict = None,
    preset: Annotated[
        Literal["preview", "standard"], typer.Option(help="preview: minutes; standard: an hour")
    ] = "standard",
    config: Annotated[Path | None, typer.Option(help="TOML that replaces the preset")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="instead of the preset's")] = None,
    runs: Annotated[Path, typer.Option(help="folder for curve, resumable state and cached pictures")] = Path(
        "runs/avatar"
    ),
    threads: Annotated[int, typer.Option(min=1, help="torch threads")] = 1,
    name: Annotated[str, typer.Option(help="the avatar's name")] = "default",
    orbit: Annotated[
        Path | None, typer.Option(help="capture folder with a split `orbit`: the same person seen by a moving camera")
    ] = None,
    hold_out: Annotated[int, typer.Option(min=0, help="last training frames not trained on")] = 60,
) -> None:
    """Train an avatar's radiance field and torso on a capture; an interrupted run resumes."""
    import dataclasses

    import torch

    from model.config import load_toml
    from model.training.avatar import PRESETS, AvatarTrainingConfig
    from model.training.capture_avatar import train_avatar

    torch.set_num_threads(threads)
    settings = load_toml(AvatarTrainingConfig, config) if config else PRESETS[preset]
    if steps is not None:
        settings = dataclasses.replace(settings, steps=steps)
    chosen = "--config CONFIG" if config else f"--preset {preset}"
    steps_given = f" --steps {steps}" if steps is not None else ""
    command = (
        f"nerf-lipsync train avatar {chosen}{steps_given}{' --orbit ORBIT' if orbit else ''} --hold-out {hold_out}"
    )
    train_avatar(
        capture_folder(capture),
        ict_file(ict),
        out,
        settings,
        runs,
        name=name,
        orbit=orbit,
        hold_out=hold_out,
        commands=(command,),
        report=_report,
    )
    typer.echo(str(out))


def capture(
    source: Annotated[Path, typer.Argument(help="capture folder")],
    out: Annotated[Path, typer.Option(help="folder for motion.npz and the pictures at training size")],
    ict: Ict = None,
    size: Annotated[int, typer.Option(min=32, help="pixels")] = 256,
) -> None:
    """Motion and training pictures of a capture; pictures already there are kept."""
    import numpy as np

    from model.data.capture import Capture as CaptureReader
    from model.training.capture_pairs import capture_motion

    reader = CaptureReader.open(source)
    motion = capture_motion(ict_file(ict), source)
    out.mkdir(parents=True, exist_ok=True)
    np.savez(out / "motion.npz", m=motion, names=np.array([f["file"] for f in reader.meta["frames"]]))
    for split in ("train", "sequence", "novel"):
        typer.echo(f"{split}: {len(reader.frames(split, size, motion, out))} frames at {size} px")


def _report(line: dict[str, float]) -> None:
    typer.echo(f"step {line['step']:.0f}  loss {line['loss']:.5f}  PSNR {line['psnr']:.2f} dB  {line['wall_s']:.0f} s")


def capture_folder(given: Path | None) -> Path:
    """The capture folder that was given, or that of `NERF_LIPSYNC_DATA`."""
    return given or _data("capture", "--capture")


def ict_file(given: Path | None) -> Path:
    """The ICT-FaceKit arrays that were given, or those of `NERF_LIPSYNC_DATA`."""
    return given or _data("ict_facekit/ict_facekit.npz", "--ict")


def _data(below: str, option: str) -> Path:
    root = os.environ.get("NERF_LIPSYNC_DATA")
    if not root:
        raise typer.BadParameter(f"give {option}, or set NERF_LIPSYNC_DATA")
    return Path(root) / below


def register_train(app: typer.Typer) -> None:
    """Add `train avatar`."""
    app.command()(avatar)


def register_prepare(app: typer.Typer) -> None:
    """Add `prepare capture`."""
    app.command()(capture)
