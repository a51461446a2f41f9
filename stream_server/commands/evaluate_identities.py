"""`nerf-lipsync evaluate identities`: VoxCeleb2 and LRW by path, an adapted avatar for each identity."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from stream_server.commands import prepare

if TYPE_CHECKING:
    from collections.abc import Sequence

    from model.data.clip_types import ClipSource
    from model.evaluation.identities import Identity
    from model.evaluation.row_store import RowArrays
    from model.evaluation.tables import MetricTable
    from model.provenance.consent import Consent

PRESET = "adapt"
WHY_BASIS = "an avatar shows a person: say on whose word, since when and on what basis (the corpus's licence)"


def identities(
    source: Annotated[Path, typer.Argument(help="corpus folder, as released")],
    layout: Annotated[Literal["voxceleb2", "lrw"], typer.Option(help="of the folder")],
    work: Annotated[Path, typer.Option(help="folder for avatars and finished identities: the same call goes on")],
    consent_by: Annotated[str, typer.Option(help=f"{WHY_BASIS}: who says so")],
    consent_date: Annotated[str, typer.Option(help="since when, YYYY-MM-DD")],
    consent_statement: Annotated[str, typer.Option(help="on what basis")],
    list_file: Annotated[
        Path | None, typer.Option("--list", help="clips to make again, one a line; all of the split if not given")
    ] = None,
    split: Annotated[str, typer.Option(help="of the corpus")] = "test",
    most_adapt: Annotated[int, typer.Option(min=1, help="VoxCeleb2: clips of a speaker to adapt to")] = 4,
    minutes: Annotated[float | None, typer.Option(min=0.01, help="longest adaptation, instead of the preset's")] = None,
    frames: Annotated[int | None, typer.Option(min=10, help="so many frames of each clip")] = None,
    identity: Annotated[Path | None, typer.Option(help="face embedder, ONNX: MobileFaceNet or ArcFace")] = None,
    inception: Annotated[Path | None, typer.Option(help="Inception-V3 weights of pytorch-fid: FID")] = None,
    json: Annotated[Path | None, typer.Option(help="results file to write")] = None,
    face_landmarker: prepare.Landmarker = None,
    segmenter: prepare.SegmenterFile = None,
) -> None:
    """The paper's protocol on VoxCeleb2 or LRW: adapt an avatar to each identity, make its clips again, score them."""
    import torch

    from model.errors import ModelError
    from model.evaluation.identities import identity_figures
    from model.evaluation.protocols import RECONSTRUCTION_METRICS
    from model.evaluation.row_store import RowStore
    from model.provenance.consent import Consent, validate_consent
    from model.results import new_results, write_results

    torch.set_num_threads(1)
    plan = _plan(source, layout, split, list_file, most_adapt)
    recipe = {"layout": layout, "minutes": minutes, "frames": frames, "most_adapt": most_adapt}
    store = RowStore(work / "scores", recipe)
    kept: dict[str, RowArrays] = {}
    tools = _Tools(work, minutes, frames, identity, inception, face_landmarker, segmenter)
    for number, one in enumerate(plan, 1):
        typer.echo(f"identity {number} of {len(plan)}: {one.name}", err=True)
        consent = Consent(
            person=one.name, statement=consent_statement, given_by=consent_by, date=consent_date, scope="evaluation"
        )
        validate_consent(consent)
        try:
            kept[one.name] = store.row(one.name, lambda one=one, consent=consent: tools.measure(one, consent))  # type: ignore[misc]
        except ModelError as error:
            typer.echo(f"left out: {one.name}: {error}", err=True)
    figures = identity_figures(layout, kept, {metric.name: metric for metric in RECONSTRUCTION_METRICS})
    for name, figure in figures.items():
        typer.echo(f"{name:56s} {figure.value:9.3f} {figure.unit}")
    if json is not None:
        command = f"nerf-lipsync evaluate identities SRC --layout {layout} --work WORK"
        command += " --list LIST" if list_file is not None else ""
        data = f"{layout}, {len(kept)} of {len(plan)} identities; avatars by preset {PRESET}"
        data += f", {minutes:g} minutes at most" if minutes is not None else ""
        data += "; the avatars were adapted to the very frames they are held against" if layout == "lrw" else ""
        write_results(json, new_results(figures, command=command, data=data))


def _plan(source: Path, layout: str, split: str, list_file: Path | None, most_adapt: int) -> list[Identity]:
    from model.evaluation.identities import plan_lrw, plan_voxceleb2

    if layout == "lrw":
        from model.data.lrw import list_lrw

        return plan_lrw(list_lrw(source, split=split, list_file=list_file))
    from model.data.voxceleb2 import list_voxceleb2

    tested = list_voxceleb2(source, split=split, list_file=list_file)
    everything = list_voxceleb2(source)
    if list_file is None:  # the last clip of each speaker
        tested = list({clip.speaker: clip for clip in tested}.values())
    plan, alone = plan_voxceleb2(everything, tested, most_adapt=most_adapt)
    for who in alone:
        typer.echo(f"left out: {who}: no clip beside those that are tested, to adapt to", err=True)
    return plan


class _Tools:
    """What turns an identity into scores; every step goes on where an interrupted one stopped."""

    def __init__(
        self,
        work: Path,
        minutes: float | None,
        frames: int | None,
        identity: Path | None,
        inception: Path | None,
        face_landmarker: Path | None,
        segmenter: Path | None,
    ) -> None:
        from model.evaluation.identity import FaceEmbedder
        from model.evaluation.learned_metrics import LearnedMetrics
        from model.evaluation.protocols import Scorers
        from model.face.model_files import FACE_LANDMARKER, default_cache, find_model_file

        self.work, self.minutes, self.frames, self.segmenter = work, minutes, frames, segmenter
        cache = default_cache(os.environ, Path.home())
        self.task_file = find_model_file(FACE_LANDMARKER, face_landmarker, cache=cache, download=True)
        embedder = FaceEmbedder(identity) if identity is not None else None
        self.scorers = Scorers(LearnedMetrics(inception=inception), embedder)

    def measure(self, one: Identity, consent: Consent) -> RowArrays:
        """Prepare, adapt, make again, score."""
        from model.evaluation.identities import scores_of

        folder = self.work / one.name
        adapt = self._prepared(folder / "adapt", one.adapt)
        test = adapt if one.test == one.adapt else self._prepared(folder / "test", one.test)
        avatar = folder / "avatar"
        if not (avatar / "avatar.json").is_file():
            self._adapt(adapt, folder, avatar, one.name, consent)
        return scores_of(self._scored(test, adapt, avatar))

    def _prepared(self, out: Path, clips: Sequence[ClipSource]) -> Path:
        options = prepare._shared(
            out=out, face_landmarker=self.task_file, segmenter=self.segmenter, pictures=True, timeout_s=3600.0
        )
        prepare._prepare("clips", clips, **options)
        return out

    def _adapt(self, prepared: Path, folder: Path, avatar: Path, name: str, consent: Consent) -> None:
        import dataclasses
        import shutil

        from model.training.video_avatar import VIDEO_PRESETS, train_video_avatar

        config = VIDEO_PRESETS[PRESET]
        if self.minutes is not None:
            config = dataclasses.replace(config, training=dataclasses.replace(config.training, minutes=self.minutes))
        partial = folder / "avatar.partial"
        shutil.rmtree(partial, ignore_errors=True)
        train_video_avatar(
            prepared,
            partial,
            config,
            folder / "training",
            name=name,
            consent=consent,
            licence="evaluation only; not for distribution",
            provenance=f"adapted by `nerf-lipsync evaluate identities`, preset {PRESET}",
            face_landmarker=self.task_file,
        )
        partial.rename(avatar)

    def _scored(self, test: Path, adapt: Path, avatar: Path) -> MetricTable:
        from model.evaluation.reconstruction import ReconstructionEvaluation, evaluate_reconstruction

        config = ReconstructionEvaluation(
            face_landmarker=self.task_file,
            filmed=test,
            made_from=adapt,
            avatar=avatar,
            scorers=self.scorers,
            frames=self.frames,
        )
        return evaluate_reconstruction(config).table


def register(group: typer.Typer) -> None:
    """Add the command to the `evaluate` group."""
    group.command()(identities)
