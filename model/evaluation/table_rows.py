"""The rows of the big table: who makes which motion of a sound.

Ours run as served, hop by hop, with gate: the student at one, two and four steps at both ends of the temperature (0:
the conditional mean, which is the default of a session; 1: as varied as people), its teacher at fifty. The others are
the controls of `model.evaluation.lip_baselines`, and ours on shuffled phonemes. All see the same sound.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.checkpoint import read_checkpoint_info
from model.data.features import load_clips
from model.errors import DataError, InputError
from model.evaluation.distillation_evaluation import STUDENT, TEACHER
from model.evaluation.hearing import FRAME_SAMPLES, hear
from model.evaluation.lip_baselines import (
    Control,
    EnergyMap,
    FrameRegressor,
    Retrieval,
    SpokenClip,
    StaticMouth,
    frame_energy,
    spoken_clips,
)
from model.evaluation.lip_rows import Method
from model.evaluation.lips import LipClip, heard_clip, shuffled_motion, stream_motion
from model.evaluation.motion_weights import load_unet, other_sampler
from model.motion.space import MotionSpace, load_motion_space
from model.speech_to_motion import SpeechToMotion
from model.training.motion_targets import load_motion

__all__ = ["CONTROLS", "DETERMINISTIC", "OURS", "ROW_MEANINGS", "SERVED", "TAUGHT", "VARIED", "RowMaker", "Sound"]

SERVED: Final = "student, 2 steps, temperature 0"
VARIED: Final = "student, 2 steps, temperature 1"
DETERMINISTIC: Final = "deterministic"
SHUFFLED: Final = "shuffled phonemes"
CONTROLS: Final = ("static", "energy only", "retrieval", SHUFFLED)
TEACHER_STEPS: Final = 50
TAUGHT: Final = f"teacher, {TEACHER_STEPS} steps, temperature 0"
ROW_MEANINGS: Final = {
    SERVED: "what a session makes by default",
    VARIED: "what a session makes at temperature 1: samples as varied as people",
    "student, 1 step, temperature 0": "one step of the student",
    "student, 4 steps, temperature 0": "four steps of the student",
    "student, 1 step, temperature 1": "one step, samples",
    "student, 4 steps, temperature 1": "four steps, samples",
    TAUGHT: "what the student was distilled from",
    f"teacher, {TEACHER_STEPS} steps, temperature 1": "the same, samples",
    DETERMINISTIC: "a two-layer net on our encoder's features, least squares: no diffusion, no gate",
    SHUFFLED: "control: the served model, everything but prosody shuffled in time",
    "static": "control: the mean mouth of the training clips",
    "energy only": "control: a linear map of loudness",
    "retrieval": "control: the mouth of the nearest log-mel window of the training clips, frame by frame",
}
SAMPLERS: Final = {
    f"{who}, {steps} {'step' if steps == 1 else 'steps'}, temperature {heat}": (who, steps, heat)
    for who, steps in (("student", 1), ("student", 2), ("student", 4), ("teacher", TEACHER_STEPS))
    for heat in (0, 1)
}
"""Who, steps and temperature of each of our rows."""
OURS: Final = tuple(row for row in ROW_MEANINGS if row in SAMPLERS)
Array = NDArray[np.float32]


@dataclass(frozen=True)
class Sound:
    """A sound as every row hears it; `truth` (T, 32) gives the length, and to the controls nothing else."""

    lip: LipClip
    spoken: SpokenClip


class RowMaker:
    """Makes the motion of any row for any sounds. What a row needs is loaded when it is first asked for.

    Args:
        train: Prepared clips that the controls are fitted on.
        left_out: Keys among them that no control may see: the sounds that are tested.
        draws: Samples of each clip at temperature 1 by the student.
        teacher_draws: The same by the teacher, whose steps cost twenty-five times as much; 0 leaves its rows out.
    """

    def __init__(self, train: Path, *, left_out: Sequence[str] = (), draws: int = 4, teacher_draws: int = 2) -> None:
        if draws < 2 or teacher_draws == 1 or teacher_draws < 0:
            raise InputError(f"a score of samples needs two draws or more, got {draws} and {teacher_draws}")
        self.train = train
        self.left_out = frozenset(left_out)
        self.draws = draws
        self.teacher_draws = teacher_draws
        self.drive = SpeechToMotion.load(num_steps=2, temperature=0.0)

    @property
    def rows(self) -> tuple[str, ...]:
        """Names of all rows that this one makes, in the order of making: what is compared comes first."""
        first = (SERVED, VARIED, *CONTROLS, DETERMINISTIC)
        rest = [row for row in ROW_MEANINGS if row not in first]
        return tuple(row for row in (*first, *rest) if self.teacher_draws or not row.startswith("teacher"))

    def key(self, row: str) -> str:
        """The name that a row is kept under: the teacher's also says how often it was drawn."""
        varied = row in SAMPLERS and SAMPLERS[row][0] == "teacher" and SAMPLERS[row][2] > 0
        return f"{row}, {self.teacher_draws} draws" if varied else row

    @property
    def recipe(self) -> dict[str, object]:
        """Everything that decides a row's motion."""
        weights = {path.stem: read_checkpoint_info(path).content_hash for path in (STUDENT, TEACHER)}
        return {"weights": weights, "train": self._train_keys, "draws": self.draws}

    @property
    def train_clips(self) -> int:
        """How many clips the controls are fitted on."""
        return len(self._train_keys)

    @cached_property
    def _train_keys(self) -> list[str]:
        return sorted(clip.key for clip in load_clips(self.train) if clip.key not in self.left_out)

    def hear(self, keys: Sequence[str], sounds: Sequence[Array], truth: Sequence[Array]) -> list[Sound]:
        """Hear sounds (samples,), -1..1, 16 kHz, each for the T frames of `truth` (T, 32)."""
        heard = hear([_long_enough(s, len(m)) for s, m in zip(sounds, truth, strict=True)], self.drive.stack.speech)
        return [
            Sound(
                heard_clip(sound, moved, self.drive),
                SpokenClip(
                    key, moved, frame_energy(sound, len(moved)), one.mel[: len(moved)], one.features[: len(moved)]
                ),
            )
            for key, sound, moved, one in zip(keys, sounds, truth, heard, strict=True)
        ]

    def motion(self, row: str, sounds: Sequence[Sound]) -> Method:
        """Motion (T, 32) of every sound, once or in several draws.

        Raises:
            InputError: There is no such row.
            DataError: No clip is left to fit a control on.
        """
        makers: dict[str, Callable[[], Control]] = {
            "static": lambda: StaticMouth.fit(self._spoken_train),
            "energy only": lambda: EnergyMap.fit(self._spoken_train),
            "retrieval": lambda: Retrieval.fit(self._spoken_train),
            DETERMINISTIC: lambda: self._regressor,
        }
        lips = [sound.lip for sound in sounds]
        if row in makers:
            control = makers[row]()
            return Method([[control.motion(sound.spoken) for sound in sounds]])
        if row == SHUFFLED:
            return Method(shuffled_motion(lips, self.drive))
        if row not in OURS:
            raise InputError(f"no row is called {row!r}: {', '.join(ROW_MEANINGS)}")
        return self._sampled(row, lips)

    @property
    def space(self) -> MotionSpace:
        """The motion space of every row."""
        return load_motion_space()

    def _sampled(self, row: str, lips: Sequence[LipClip]) -> Method:
        who, steps, heat = SAMPLERS[row]
        unet = load_unet(STUDENT if who == "student" else TEACHER)
        sampler = other_sampler(unet, self.drive, num_steps=steps, temperature=float(heat))
        count = 1 if heat == 0 else self.draws if who == "student" else self.teacher_draws
        return Method(
            [stream_motion(lips, self.drive, generator=sampler, seed=seed) for seed in range(count)], samples=heat > 0
        )

    @cached_property
    def _spoken_train(self) -> list[SpokenClip]:
        clips = [clip for clip in load_clips(self.train) if clip.key not in self.left_out]
        if not clips:
            raise DataError(f"{self.train} has no clips to fit the controls on beside those that are tested")
        return spoken_clips(clips, load_motion(self.train), self.drive.stack.speech)

    @cached_property
    def _regressor(self) -> FrameRegressor:
        return FrameRegressor.fit(self._spoken_train, "features")


def _long_enough(sound: Array, frames: int) -> Array:
    """At least as much sound as T frames last: silence after its end."""
    samples = frames * FRAME_SAMPLES
    return np.pad(sound, (0, max(0, samples - len(sound))))
