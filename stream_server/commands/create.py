"""`nerf-lipsync create`: an avatar from consented video, in one command."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import typer

from stream_server.commands import prepare
from stream_server.commands.create_consent import given_consent

if TYPE_CHECKING:
    from model.provenance.consent import Consent
    from model.training.devices import DeviceName
    from model.training.video_avatar import TrainingProgress

FPS = 25
LEAST_S = {"adapt": 2.0}
LEAST_OTHERWISE_S = 20.0
HOLD_OUT_EVERY = 10
LEAST_CLIPS_TO_HOLD_OUT = 4


class _Training(NamedTuple):
    """What was said of the training."""

    preset: str
    minutes: float | None
    start_from: Path | None
    face_landmarker: Path | None
    face_network: Path | None
    device: DeviceName


def create(
    videos: Annotated[list[Path], typer.Argument(help="videos of one person, or folders of them: 20 s to 5 minutes")],
    out: Annotated[Path, typer.Option(help="avatar folder to write")],
    preset: Annotated[
        Literal["adapt", "preview", "standard", "paper"],
        typer.Option(help="adapt: a minute, one clip; preview: 5 minutes, 128 px; standard: 40 minutes"),
    ] = "standard",
    consent_file: Annotated[
        Path | None, typer.Option("--consent", help="JSON file of the consent, instead of the next six options")
    ] = None,
    consent_person: Annotated[str, typer.Option(help="who is shown")] = "",
    consent_by: Annotated[str, typer.Option(help="who agreed")] = "",
    consent_date: Annotated[str, typer.Option(help="when, YYYY-MM-DD")] = "",
    consent_statement: Annotated[str, typer.Option(help="to what: a sentence, or a text file")] = "",
    consent_scope: Annotated[str, typer.Option(help="for which uses")] = "",
    consent_expires: Annotated[str | None, typer.Option(help="until when, YYYY-MM-DD; servers refuse it then")] = None,
    name: Annotated[str | None, typer.Option(help="the avatar's name; the folder's if not given")] = None,
    licence: Annotated[str, typer.Option(help="of the avatar")] = "private; not for distribution",
    work: Annotated[Path | None, typer.Option(help="folder for what is resumed; OUT.work if not given")] = None,
    minutes: Annotated[float | None, typer.Option(min=0.1, help="longest training, instead of the preset's")] = None,
    threads: Annotated[int, typer.Option(min=1, help="torch threads")] = 2,
    device: Annotated[
        Literal["auto", "cpu", "cuda"], typer.Option(help="where it trains; auto: a CUDA GPU where there is one")
    ] = "auto",
    start_from: Annotated[Path | None, typer.Option(help="avatar to start from; the shipped one")] = None,
    face_landmarker: prepare.Landmarker = None,
    segmenter: prepare.SegmenterFile = None,
    head_model: prepare.HeadFolder = None,
    face_network: Annotated[
        Path | None,
        typer.Option(help="ONNX file of MobileFaceNet or ArcFace: perceptual and identity losses in training"),
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="replace an avatar that is there")] = False,
) -> None:
    """An avatar from video. The same command continues an interrupted one; OUT appears when it is whole."""
    import torch

    consent = given_consent(
        consent_file, consent_person, consent_by, consent_date, consent_statement, consent_scope, consent_expires
    )
    _refuse_existing(out, overwrite)
    _refuse_within(out, [*videos, *(path for path in (work, consent_file) if path is not None)])
    _require(device, face_network)
    torch.set_num_threads(threads)
    folder = work or out.with_name(out.name + ".work")
    partial = folder / "avatar.partial"
    try:
        prepared = _prepared(videos, folder, face_landmarker, segmenter, head_model)
        held_out = _held_out(prepared, preset)
        shutil.rmtree(partial, ignore_errors=True)
        began = time.monotonic()
        named = (name or out.name, licence)
        settings = _Training(preset, minutes, start_from, face_landmarker, face_network, device)
        _train(prepared, partial, folder, consent, named, held_out, settings)
        _report(partial, prepared, held_out, preset, time.monotonic() - began)
        _put(partial, out)
    except OSError as error:
        from model.errors import DataError

        raise DataError(f"cannot write the avatar: {error.strerror or error} ({error.filename or folder})") from error
    typer.echo(f"{out}: ready; nerf-lipsync serve --avatar {out}; quality: {out / 'report.html'}")


def _refuse_existing(out: Path, overwrite: bool) -> None:
    from model.errors import InputError

    if not out.name or out.resolve() in (Path.cwd(), *Path.cwd().parents):
        raise InputError(f"--out {out} is the current folder or one above it; name a new folder for the avatar")
    if out.exists() and not overwrite:
        raise InputError(f"{out} exists; give another --out, or --overwrite to replace it")
    if out.exists() and not (out / "avatar.json").is_file():
        raise InputError(f"{out} is no avatar (it has no avatar.json) and is not replaced; give another --out")


def _refuse_within(out: Path, needed: Sequence[Path]) -> None:
    """What lies in the folder that is replaced would go with it."""
    from model.errors import InputError

    for path in needed:
        if path.resolve().is_relative_to(out.resolve()):
            raise InputError(f"{path} would be deleted with the folder that --out {out} replaces; give another --out")


def _require(device: DeviceName, face_network: Path | None) -> None:
    """Raises ConfigError or InputError, before anything is read, when a GPU or a file that was asked for is missing."""
    if device == "cuda":
        from model.slots.devices import require_gpu

        require_gpu()
    if face_network is not None:
        from model.training.face_loss import load_face_judge

        load_face_judge(face_network)


def _put(partial: Path, out: Path) -> None:
    """Move the finished folder to `out` by renaming; an older avatar goes only when the new one is there."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as beside:
        new, old = Path(beside) / "new", Path(beside) / "old"
        shutil.move(partial, new)  # a copy where the work folder is on another disk
        try:
            if out.exists():
                out.rename(old)
            new.rename(out)
        except BaseException:  # Ctrl-C as well: what lies in `beside` is deleted
            if old.exists() and not out.exists():
                old.rename(out)
            raise


def _prepared(
    videos: list[Path],
    folder: Path,
    face_landmarker: Path | None,
    segmenter: Path | None,
    head_model: Path | None = None,
) -> Path:
    """The videos as clips with pictures; says what was unusual about each.

    Sound is not needed: where there is some, it tells whether picture and sound are in step.
    """
    from model.data.features import iterate_clips
    from model.data.preparing.recipe import OtherRecipeError
    from model.data.video_folder import list_videos
    from model.errors import InputError

    prepared = folder / "clips"
    clips = list_videos(videos)
    typer.echo(f"reading {len(clips)} videos; everything is kept in {folder}", err=True)
    options = prepare._shared(
        out=prepared,
        face_landmarker=face_landmarker,
        segmenter=segmenter,
        head_model=head_model,
        pictures=True,
        timeout_s=3600.0,
    )
    try:
        prepare._prepare("videos", clips, need_sound=False, **options)
    except OtherRecipeError as error:  # its advice is for `prepare`: --overwrite is about the avatar here
        raise InputError(
            f"{folder} is from other videos or settings: delete it, or name another folder with --work"
        ) from error
    for clip in iterate_clips(prepared):
        for note in clip.meta["notes"]:
            typer.echo(f"note: {clip.key}: {note}", err=True)
    return prepared


def _held_out(prepared: Path, preset: str) -> tuple[str, ...]:
    """Every tenth clip where there are several.

    Raises:
        InputError: There is too little video.
    """
    from model.data.features import iterate_clips
    from model.errors import InputError

    frames = {clip.key: len(clip.landmarks) for clip in iterate_clips(prepared)}
    seconds, least = sum(frames.values()) / FPS, LEAST_S.get(preset, LEAST_OTHERWISE_S)
    if seconds < least:
        raise InputError(
            f"{seconds:.1f} s of usable video; preset {preset} needs {least:.0f} s: film more, or use --preset adapt"
        )
    keys = sorted(frames)
    return tuple(keys[HOLD_OUT_EVERY // 2 :: HOLD_OUT_EVERY]) if len(keys) >= LEAST_CLIPS_TO_HOLD_OUT else ()


def _train(
    prepared: Path,
    partial: Path,
    folder: Path,
    consent: Consent,
    named: tuple[str, str],  # name and licence
    held_out: tuple[str, ...],
    given: _Training,
) -> None:
    import dataclasses

    from model.avatar import read_avatar_config
    from model.face.model_files import FACE_LANDMARKER, default_cache, find_model_file
    from model.training.own_idle import own_idle_of_clips
    from model.training.video_avatar import VIDEO_PRESETS, train_video_avatar

    cache = default_cache(os.environ, Path.home())
    config, began_from = VIDEO_PRESETS[given.preset], given.start_from
    if given.minutes is not None:
        config = dataclasses.replace(config, training=dataclasses.replace(config.training, minutes=given.minutes))
    if given.face_network is None:
        typer.echo("note: no --face-network: trained without perceptual and identity losses", err=True)
    start = f"-{read_avatar_config(began_from).field_hash[:8]}" if began_from else ""  # another start, another training
    train_video_avatar(
        prepared,
        partial,
        config,
        folder / f"training-{given.preset}{start}",
        name=named[0],
        consent=consent,
        licence=named[1],
        provenance=f"made of consented video by `nerf-lipsync create --preset {given.preset}`",
        face_landmarker=find_model_file(FACE_LANDMARKER, given.face_landmarker, cache=cache, download=True),
        held_out=held_out,
        start_from=began_from,
        commands=(_command(given),),
        report=_say,
        device=given.device,
        face_network=given.face_network,
    )
    own_idle_of_clips(prepared).save(partial)


def _command(given: _Training) -> str:
    """What the user typed, as the avatar remembers it: without paths and names."""
    more = f" --minutes {given.minutes:g}" if given.minutes is not None else ""
    more += " --start-from AVATAR" if given.start_from else ""
    more += " --face-network ONNX" if given.face_network else ""
    return f"nerf-lipsync create VIDEOS --preset {given.preset}{more}"


def _say(progress: TrainingProgress) -> None:
    typer.echo(
        f"training: step {progress.step}, {progress.psnr_db:.1f} dB, {progress.left_s / 60:.1f} minutes left; "
        f"picture: {progress.preview}",
        err=True,
    )


def _report(partial: Path, prepared: Path, held_out: tuple[str, ...], preset: str, wall_s: float) -> None:
    import resource

    from model.evaluation.avatar_report import measure_avatar, write_avatar_report

    quality = measure_avatar(partial, prepared, held_out)
    memory_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    facts = {"preset": preset, "training": f"{wall_s / 60:.1f} minutes", "peak memory": f"{memory_gb:.1f} GB"}
    write_avatar_report(partial, quality, facts)
    for what, (value, unit) in quality.figures.items():
        typer.echo(f"{what}: {value:.2f} {unit}")
    for warning in quality.warnings:
        typer.echo(f"note: {warning}")


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(create)
