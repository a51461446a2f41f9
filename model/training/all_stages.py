"""The whole training from GRID's videos to the weights that are served, as stages (`model.training.stage_runner`).

`nerf-lipsync train all --data GRID --out DIR`: prepare both splits, make the voice corpus, train speech encoder, motion
VAE and co-articulation, hear everything as it is served, train the motion teacher, distil it, and train the sync
critic. Prepared data, curves and resumable state go to the run folder, weights to `out`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from model.checkpoint import read_checkpoint_info
from model.config import config_to_json
from model.data.clip_analysis import AnalysisSettings, analyse_clip
from model.data.corpus_build import build_corpus
from model.data.corpus_parts import MANIFEST
from model.data.grid import list_grid
from model.data.preparing import prepare_clips, write_report
from model.data.preparing.folder import PreparedFolder
from model.errors import CheckpointError, InputError
from model.face.head_shape import load_head_shape
from model.face.model_files import sha256_of
from model.motion.space import load_motion_space
from model.motion.sync_critic import ASSET as SYNC_ASSET
from model.speech.speech_file import load_speech
from model.training.coarticulation import train_coarticulation
from model.training.distill import train_distill
from model.training.motion import MotionSources, load_sources, train_motion
from model.training.motion_data import held_out_items, train_items
from model.training.motion_vae import train_vae
from model.training.presets import TrainAllConfig
from model.training.speech import train_speech
from model.training.stage_runner import Stage
from model.training.sync_critic import train_sync_critic

__all__ = ["TrainAll"]

SPLITS = ("train", "val")
GRID_STAGES = tuple(f"grid-{split}" for split in SPLITS)
HEARD = ("hearing", "speech", "motion_vae")
Tick = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainAll:
    """What the whole training is given. `tick` receives a line whenever something has moved on."""

    data: Path  # GRID videos with alignments: folders `train` and `val`
    out: Path
    runs: Path
    config: TrainAllConfig
    face_landmarker: Path
    workers: int
    tick: Tick

    @property
    def grid(self) -> Path:
        """Prepared clips of both splits."""
        return self.runs / "grid"

    @property
    def corpus(self) -> Path:
        """The voice corpus."""
        return self.runs / "voices"

    def weights(self, name: str) -> Path:
        """A checkpoint in `out`."""
        return self.out / f"{name}.safetensors"

    def stages(self) -> Sequence[Stage]:
        """All stages in their order.

        Raises:
            DataError: A split's folder is missing or holds no clips.
        """
        return (
            *(self._prepare(split) for split in SPLITS),
            self._voices(),
            self._speech(),
            self._motion_vae(),
            self._coarticulation(),
            self._hearing(),
            *self._motion(),
            self._sync(),
        )

    def _prepare(self, split: str) -> Stage:
        name, folder, source = f"grid-{split}", self.grid / split, self.data / split
        clips = list_grid(source)
        settings = AnalysisSettings(face_landmarker=self.face_landmarker.absolute())
        files = {
            "face_landmarker": sha256_of(self.face_landmarker),
            "head_shape": load_head_shape().hash,
            "motion_space": load_motion_space().hash,
        }

        def on_progress(done: int, total: int, rejects: int, _per_minute: float, _eta_s: float | None, /) -> None:
            self.tick(f"{name}: {done} of {total} clips, {rejects} left out")

        def make() -> None:
            manifest = prepare_clips(
                clips,
                analyse_clip,
                settings,
                folder,
                data_set="GRID",
                workers=self.workers,
                fingerprint_extra=files,
                on_progress=on_progress,
            )
            report = write_report(folder, [])
            if not manifest.used:
                raise InputError(f"none of {manifest.clips} clips can be used; the reasons stand in {report}")

        inputs = files | {"clips": _files_hash(source)}
        output = PreparedFolder(folder).manifest
        return Stage(name=name, folder=folder, inputs=inputs, make=make, output=lambda: _file_hash(output))

    def _voices(self) -> Stage:
        config = self.config.voices

        def on_part(done: int, total: int, name: str) -> None:
            self.tick(f"voices: {done} of {total} parts, {name}")

        return Stage(
            name="voices",
            folder=self.corpus,
            needs=("grid-train",),
            inputs={"config": _config_hash(config)},
            make=lambda: build_corpus(self.grid / "train", self.corpus, config, workers=self.workers, on_part=on_part),
            output=lambda: _file_hash(self.corpus / MANIFEST),
        )

    def _speech(self) -> Stage:
        config = self.config.speech
        return self._training(
            "speech",
            (*GRID_STAGES, "voices"),
            config,
            lambda out, run: train_speech(self.grid, self.corpus, out, config, run),
        )

    def _motion_vae(self) -> Stage:
        config = self.config.motion_vae
        return self._training(
            "motion_vae", GRID_STAGES, config, lambda out, run: train_vae(self.grid, out, config, run)
        )

    def _coarticulation(self) -> Stage:
        config = self.config.coarticulation
        return self._training(
            "coarticulation", GRID_STAGES, config, lambda out, run: train_coarticulation(self.grid, out, config, run)
        )

    def _hearing(self) -> Stage:
        folder, config = self.runs / "hearing", self.config.motion.hearing

        def make() -> None:
            speech = load_speech(self.weights("speech"))
            coarticulation = self.weights("coarticulation")
            train_items(self.grid, speech, folder, config, corpus=self.corpus, coarticulation=coarticulation)
            held_out_items(self.grid, speech, folder, config)

        return Stage(
            name="hearing",
            folder=folder,
            needs=(*GRID_STAGES, "voices", "speech", "coarticulation"),
            inputs={"config": _config_hash(config)},
            make=make,
            output=lambda: _files_hash(folder),
        )

    def _motion(self) -> tuple[Stage, ...]:
        """A rectified-flow teacher and its student; what else may be asked for is served as it was trained."""
        config = self.config.motion
        distilled = config.model.process == "flow"
        name = "motion_teacher" if distilled else "motion"
        trained = self._training(name, HEARD, config, lambda out, run: train_motion(self._sources(), out, config, run))
        return (trained, self._student(name)) if distilled else (trained,)

    def _student(self, teacher: str) -> Stage:
        config = self.config.distill
        return self._training(
            "motion",
            (*HEARD, teacher),
            config,
            lambda out, run: train_distill(self._sources(), self.weights(teacher), out, config, run),
        )

    def _sources(self) -> MotionSources:
        """What `hearing` made, and the models that motion is bound to."""
        return load_sources(
            self.grid,
            self.corpus,
            self.weights("speech"),
            self.weights("motion_vae"),
            self.runs / "hearing",
            self.config.motion.hearing,
            coarticulation=self.weights("coarticulation"),
        )

    def _sync(self) -> Stage:
        config = self.config.sync
        return self._training(
            SYNC_ASSET.stem,
            (*GRID_STAGES, "voices"),
            config,
            lambda out, run: train_sync_critic(self.grid, self.corpus, out, config, run),
        )

    def _training(self, name: str, needs: tuple[str, ...], config: object, train: Callable[[Path, Path], str]) -> Stage:
        """A stage that `train(weights, run folder)` does, resumably."""
        out, folder = self.weights(name), self.runs / name
        return Stage(
            name=name,
            folder=folder,
            needs=needs,
            inputs={"config": _config_hash(config)},
            make=lambda: train(out, folder),
            output=lambda: _checkpoint_hash(out),
        )


def _config_hash(config: object) -> str:
    return hashlib.sha256(config_to_json(config).encode()).hexdigest()


def _file_hash(path: Path) -> str:
    return sha256_of(path) if path.is_file() else ""


def _files_hash(folder: Path) -> str:
    """Of names and contents of all files below a folder."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest.update(f"{path.relative_to(folder).as_posix()} {sha256_of(path)}\n".encode())
    return digest.hexdigest()


def _checkpoint_hash(path: Path) -> str:
    """A checkpoint's content hash; "" where it is missing or cannot be read, so that it is made again."""
    try:
        return read_checkpoint_info(path).content_hash
    except CheckpointError:
        return ""
