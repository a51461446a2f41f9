"""`nerf-lipsync head-model`: heads for the `smplx` package, built from ICT-FaceKit or converted from licensed files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def head_model(
    out: Annotated[Path, typer.Option(help="folder of the head; converted parts come together in one folder")],
    ict: Annotated[Path | None, typer.Option(help="ICT-FaceKit: its checkout, FaceXModel folder, or npz")] = None,
    convert: Annotated[
        list[Path] | None,
        typer.Option(help="a licensed FLAME or SMPL-X file (model or landmark embedding); may be given several times"),
    ] = None,
) -> None:
    """Make a head folder: a licence-free one from ICT-FaceKit, or from licensed FLAME and SMPL-X files.

    Licensed pickles are read once, by a restricted reader in a process of its own; what is written holds no pickle.
    """
    from model.errors import InputError

    if (ict is None) == (not convert):
        raise InputError("give either --ict PATH or --convert FILE (once for each licensed file)")
    written = _build(ict, out) if ict is not None else _convert(convert or [], out)
    for path in written:
        typer.echo(f"wrote {path}")
    typer.echo(_summary(out))


def _build(ict: Path, out: Path) -> list[Path]:
    from model.face.flame_layout import build_flame_layout, ict_regions, load_mediapipe_vertices
    from model.face.head_files import write_head
    from model.face.ict_head import IctHead

    return write_head(out, build_flame_layout(IctHead.load(ict), ict_regions(load_mediapipe_vertices())))


def _convert(files: list[Path], out: Path) -> list[Path]:
    from model.face.foreign_models import convert_file

    return [path for file in files for path in convert_file(file, out)]


def _summary(out: Path) -> str:
    """What the folder now holds, or what it still lacks."""
    from model.face.head_models import load_head_model

    if not (out / "head.npz").is_file():
        return f"{out}: landmark embeddings only so far; convert the model file (FLAME_*.pkl, SMPLX_*.npz) too"
    model = load_head_model(out)
    sets = ", ".join(model.landmark_sets) or "none yet: convert the landmark embeddings too"
    return (
        f"{out}: {model.kind}, {len(model.head.v_template)} vertices, {model.num_betas} identity and "
        f"{model.num_expressions} expression coefficients; landmarks: {sets}; {model.head.about.licence}"
    )


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("head-model")(head_model)
