"""`nerf-lipsync prepare`: one subcommand for each kind of data set, importing what it needs when it runs."""

from __future__ import annotations

import functools
import inspect
import os
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream_server.commands import train_avatar

if TYPE_CHECKING:
    from model.data.clip_types import ClipSource

app = typer.Typer(no_args_is_help=True)

Options = dict[str, Any]

TELEMETRY = "MediaPipe looks up a telemetry host of its maker when it starts; it runs in worker processes only."

Out = Annotated[Path, typer.Option(help="folder for shards, manifest and report; an interrupted run continues")]
Landmarker = Annotated[
    Path | None,
    typer.Option(
        envvar="NERF_LIPSYNC_FACE_LANDMARKER",
        help="MediaPipe face_landmarker.task; without it the cached or fetched one",
    ),
]
SegmenterFile = Annotated[
    Path | None,
    typer.Option(
        envvar="NERF_LIPSYNC_SEGMENTER", help="selfie_multiclass_256x256.tflite, for backdrops that are not plain"
    ),
]
HeadFolder = Annotated[
    Path | None, typer.Option(help="folder made by head-model: also fit FLAME or SMPL-X to each clip")
]
Workers = Annotated[int, typer.Option(min=1, help="clips at a time")]
EngineOption = Annotated[str, typer.Option(help="local, or ray: the same work on Ray Data")]
Address = Annotated[str | None, typer.Option(help="Ray cluster to join; without it a local Ray is started")]
Pictures = Annotated[bool, typer.Option(help="also 256 px crops with alpha and labels")]
MouthMotion = Annotated[bool, typer.Option(help="optical flow about the mouth: only training motion models reads it")]
Focal = Annotated[float | None, typer.Option(help="focal length in pixels of the upright picture, when known")]
CheckSync = Annotated[bool, typer.Option(help="shift sound within 3 frames, refuse what is further off")]
Overwrite = Annotated[bool, typer.Option(help="start over where the folder was begun with other settings")]
Offline = Annotated[bool, typer.Option(help="download nothing")]
ShardClips = Annotated[int, typer.Option(min=1, help="clips per shard")]
Timeout = Annotated[float, typer.Option(min=1.0, help="longest time for one clip, seconds")]
ListFile = Annotated[
    Path | None, typer.Option("--list", help="file that names the clips, such as a 500-clip test list")
]
Split = Annotated[str, typer.Option(help="one split only")]
Sample = Annotated[int | None, typer.Option(min=1, help="that many clips, chosen by --seed and spread over speakers")]
Seed = Annotated[int, typer.Option(help="of --sample")]


@app.callback()
def prepare() -> None:
    """Turn a data set into features; resumable."""


def _shared(
    out: Out,
    face_landmarker: Landmarker = None,
    segmenter: SegmenterFile = None,
    head_model: HeadFolder = None,
    workers: Workers = 2,
    engine: EngineOption = "local",
    address: Address = None,
    pictures: Pictures = False,
    flow: MouthMotion = True,
    focal_px: Focal = None,
    sync: CheckSync = True,
    overwrite: Overwrite = False,
    offline: Offline = False,
    shard_clips: ShardClips = 100,
    timeout_s: Timeout = 600.0,
) -> Options:
    """The options of every kind of data set, as a mapping."""
    return locals()


def _with_shared(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the options of `_shared` behind its own, handed to it as `options`."""
    own, shared = (typing.get_type_hints(f, include_extras=True) for f in (command, _shared))
    parameters = [
        p for f in (command, _shared) for p in inspect.signature(f).parameters.values() if p.name != "options"
    ]
    hints = own | shared

    @functools.wraps(command)
    def run(**given: Any) -> None:
        options = {name: given.pop(name) for name in inspect.signature(_shared).parameters}
        command(**given, options=_shared(**options))

    del run.__wrapped__  # typer would look at the command's own signature
    run.__annotations__ = {p.name: hints[p.name] for p in parameters} | {"return": None}
    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [p.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[p.name]) for p in parameters]
    )
    return run


@app.command()
@_with_shared
def grid(
    source: Annotated[Path, typer.Argument(help="GRID folder: clips (.mp4, .mpg) with .align files")],
    options: Options,
    sample: Sample = None,
    seed: Seed = 0,
) -> None:
    """GRID corpus: faces, sound and words."""
    from model.data.grid import list_grid

    _prepare("GRID", _sampled(list_grid(source), sample, seed), **options)


@app.command()
@_with_shared
def voxceleb2(
    source: Annotated[Path, typer.Argument(help="VoxCeleb2 folder: dev|test/mp4|aac/idXXXXX/...")],
    options: Options,
    list_file: ListFile = None,
    split: Split = "",
    sample: Sample = None,
    seed: Seed = 0,
) -> None:
    """VoxCeleb2."""
    from model.data.voxceleb2 import list_voxceleb2

    _prepare("VoxCeleb2", _sampled(list_voxceleb2(source, split=split, list_file=list_file), sample, seed), **options)


@app.command()
@_with_shared
def lrw(
    source: Annotated[Path, typer.Argument(help="LRW folder: WORD/train|val|test/*.mp4")],
    options: Options,
    list_file: ListFile = None,
    split: Split = "",
    sample: Sample = None,
    seed: Seed = 0,
) -> None:
    """LRW: clips of one word, 29 frames each."""
    from model.data.lrw import list_lrw

    _prepare("LRW", _sampled(list_lrw(source, split=split, list_file=list_file), sample, seed), **options)


@app.command()
@_with_shared
def video(
    source: Annotated[list[Path], typer.Argument(help="videos, or folders of them")],
    options: Options,
) -> None:
    """Plain videos of one person each."""
    from model.data.video_folder import list_videos

    _prepare("videos", list_videos(source), **options)


@app.command()
def voices(
    grid: Annotated[Path, typer.Option(help="prepared GRID clips of one speaker (folder `train`)")],
    out: Annotated[Path, typer.Option(help="folder for the corpus; an interrupted run continues")],
    config: Annotated[Path | None, typer.Option(help="TOML; about nine hours of sound if not given")] = None,
    workers: Workers = 2,
) -> None:
    """Sound to train the speech encoder: synthetic and recorded voices, the filmed speaker re-voiced, noise, music.

    Needs the Debian packages libespeak-ng1, flite, festival with its voices, fluidsynth and fluid-soundfont-gm, and
    this package's extra `train`.
    """
    from model.config import load_toml
    from model.data.corpus_build import CorpusConfig, build_corpus

    settings = load_toml(CorpusConfig, config) if config else CorpusConfig()

    def say(done: int, total: int, name: str) -> None:
        typer.echo(f"{done} of {total} parts: {name}", err=True)

    manifest = build_corpus(grid, out, settings, workers=workers, on_part=say)
    typer.echo(f"{out}: {manifest['hours']} hours, {manifest['clips_left_out']} clips left out")


def _sampled(clips: Sequence[ClipSource], count: int | None, seed: int) -> Sequence[ClipSource]:
    if count is None:
        return clips
    from model.data.clip_lists import sample_clips

    return sample_clips(clips, count, seed)


def _prepare(
    data_set: str,
    clips: Sequence[ClipSource],
    *,
    out: Path,
    face_landmarker: Path | None,
    segmenter: Path | None,
    head_model: Path | None,
    workers: int,
    engine: Any,
    address: str | None,
    pictures: bool,
    flow: bool,
    focal_px: float | None,
    sync: bool,
    overwrite: bool,
    offline: bool,
    shard_clips: int,
    timeout_s: float,
    need_sound: bool = True,
) -> None:
    from model.data.clip_analysis import AnalysisSettings, analyse_clip
    from model.data.preparing import prepare_clips, write_report
    from model.data.video import ReadSettings
    from model.errors import InputError
    from model.face.head_shape import load_head_shape
    from model.face.model_files import FACE_LANDMARKER, default_cache, find_model_file, sha256_of
    from model.motion.space import load_motion_space
    from stream_server.commands.progress import ClipProgress

    typer.echo(TELEMETRY, err=True)
    cache = default_cache(os.environ, Path.home())
    task_file = find_model_file(FACE_LANDMARKER, face_landmarker, cache=cache, download=not offline)
    settings = AnalysisSettings(
        face_landmarker=task_file.absolute(),
        segmenter=segmenter.absolute() if segmenter else None,
        head_model=head_model.absolute() if head_model else None,
        focal_px=focal_px,
        check_sync=sync,
        with_pictures=pictures,
        with_flow=flow,
        read=ReadSettings(need_audio=need_sound),
    )
    inputs = {
        "face_landmarker": sha256_of(task_file),
        "head_shape": load_head_shape().hash,
        "motion_space": load_motion_space().hash,
        **({"segmenter": sha256_of(segmenter)} if segmenter else {}),
        **({"head_model": _head_hash(head_model)} if head_model else {}),
    }
    with ClipProgress(f"prepare {data_set}") as progress:
        manifest = prepare_clips(
            clips,
            analyse_clip,
            settings,
            out,
            data_set=data_set,
            engine=engine,
            workers=workers,
            timeout_s=timeout_s,
            shard_clips=shard_clips,
            fingerprint_extra=inputs,
            on_progress=progress,
            overwrite=overwrite,
            address=address,
        )
    reasons = _say_rejects(out)
    report = write_report(out, _histograms())
    refused = sum(manifest.rejects.values())
    typer.echo(f"{out}: {manifest.used} clips prepared, {refused} left out; {report}")
    if len(reasons) == manifest.clips == 1:
        raise InputError(reasons[0])
    if not manifest.used:
        raise InputError(f"none of {manifest.clips} clips can be used; the reasons stand above and in {report}")


def _head_hash(folder: Path) -> str:
    """Hash of a head folder, which must be whole."""
    from model.face.head_models import load_head_model
    from model.face.model_files import sha256_of

    load_head_model(folder)
    return sha256_of(folder / "head.npz")


def _say_rejects(out: Path, most: int = 20) -> list[str]:
    """One line for each clip left out; returns what was wrong with them."""
    from model.data.preparing.records import ShardRecord, read_manifest, read_record

    reasons: list[str] = []
    for entry in read_manifest(out).shards:
        for clip in read_record(ShardRecord, (out / entry.name).with_suffix(".json")).clips:
            if clip.problem is None:
                continue
            reasons.append(clip.message)
            if len(reasons) <= most:
                typer.echo(f"left out: {clip.key}: {clip.problem}: {clip.message}", err=True)
    if len(reasons) > most:
        typer.echo(f"left out: {len(reasons) - most} more; see report.html", err=True)
    return reasons


def _histograms() -> list[Any]:
    from model.data.preparing import HistogramSpec

    return [
        HistogramSpec(field="yaw_deg", title="Head yaw (median of the clip)", unit="degrees", low=-45, high=45),
        HistogramSpec(field="pitch_deg", title="Head pitch", unit="degrees", low=-30, high=30),
        HistogramSpec(field="roll_deg", title="Head roll", unit="degrees", low=-30, high=30),
        HistogramSpec(field="sync_offset_frames", title="Sound late by", unit="frames", low=-15.5, high=15.5, bins=31),
        HistogramSpec(field="sync_confidence", title="Confidence of sync", unit="r", low=0, high=1.2),
        HistogramSpec(field="reprojection_px", title="Head model against landmarks", unit="px", low=0, high=10),
        HistogramSpec(field="flow_confidence", title="Confidence of mouth flow", unit="share", low=0, high=1),
    ]


def register(parent: typer.Typer) -> None:
    """Add the group to the application."""
    train_avatar.register_prepare(app)
    parent.add_typer(app, name="prepare")
