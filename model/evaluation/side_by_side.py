"""One avatar several times, side by side: the tracked motion of a clip, the teacher's, the student's, with the sound.

Everybody hears the same sound and has the same noise (one seed), the same blinks, and a head that stands still, so that
nothing differs but the mouth and brows. Motion is shown as the model makes it: without the voice gate and smoothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from model.audio_file import read_audio
from model.avatar import load_avatar
from model.data.features import load_clips
from model.diffusion.generator import MotionGenerator
from model.errors import InputError
from model.evaluation.distillation import stream_sessions
from model.evaluation.distillation_evaluation import STUDENT, TEACHER
from model.evaluation.hearing import FRAME_SAMPLES
from model.evaluation.lips import heard_clip
from model.evaluation.motion_weights import hearing_for, load_unet, other_sampler
from model.evaluation.report.video import Panel, write_panels
from model.motion.idle import IdleMotion
from model.motion.retarget import Retarget
from model.motion.space import BROW_CODES, LID_CODES, MOTION_SIZE, MotionSpace, load_motion_space
from model.radiance.camera import HeadPose
from model.radiance.serving import AvatarRenderer
from model.speech_to_motion import SpeechToMotion
from model.training.motion_targets import load_motion

__all__ = ["SideBySide", "write_comparison"]

TEACHER_STEPS: Final = 50
STUDENT_STEPS: Final = 2
TRACKED: Final = "tracked motion"
Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class SideBySide:
    """What to show: a sound file, or a prepared clip (the first one without a key), whose tracked motion is known."""

    audio: Path | None = None
    grid: Path | None = None
    clip: str = ""
    compare: Literal["steps", "temperature"] = "steps"
    teacher: Path = TEACHER
    student: Path = STUDENT
    avatar: Path | None = None
    size_px: int = 256
    seed: int = 0


@dataclass(frozen=True)
class _Speech:
    """A sound of T frames (samples,), and what was tracked in its video."""

    sound: Array
    tracked: Array | None  # (T, 32)

    @property
    def frames(self) -> int:
        return len(self.sound) // FRAME_SAMPLES


def write_comparison(out: Path, request: SideBySide) -> tuple[str, ...]:
    """Write the MP4; returns the panels' labels from left to right.

    Raises:
        InputError: The sound cannot be read or is shorter than a frame, there is no such clip, or `out` cannot be
            written.
        ModelError: Weights, clips or the avatar are missing or do not fit.
    """
    speech = _speech(request)
    space = load_motion_space()
    motions = {} if speech.tracked is None else {TRACKED: speech.tracked}
    motions |= _made_motions(speech, request)
    avatar = load_avatar(request.avatar, motion_space=space.hash)
    renderer = AvatarRenderer(avatar, size_px=request.size_px)
    retarget = Retarget.load(avatar.folder)
    panels = [
        Panel(label=label, origin="synthetic", frames=_pictures(motion, renderer, retarget, space, request.seed))
        for label, motion in motions.items()
    ]
    write_panels(out, panels, sound=speech.sound)
    return tuple(motions)


def _speech(request: SideBySide) -> _Speech:
    if request.grid is None:
        if request.audio is None:
            raise InputError("nothing to show: give a sound file or a folder of prepared clips")
        sound = read_audio(request.audio)
        if len(sound) < FRAME_SAMPLES:
            raise InputError(f"{request.audio} lasts {len(sound)} samples, less than one frame of {FRAME_SAMPLES}")
        return _Speech(sound, None)
    clips = {clip.key: clip for clip in load_clips(request.grid / "val")}
    key = request.clip or next(iter(clips))
    if key not in clips:
        raise InputError(f"no clip {key!r} in {request.grid / 'val'}; there are {', '.join(list(clips)[:5])} ...")
    return _Speech(clips[key].sound, load_motion(request.grid / "val")[key])


def _made_motions(speech: _Speech, request: SideBySide) -> dict[str, Array]:
    """Motion (T, 32) by label."""
    drive = SpeechToMotion.load()
    made = {}
    for label, sampler in _samplers(request, drive).items():
        own = hearing_for(sampler, drive)
        clip = heard_clip(speech.sound, np.zeros((speech.frames, MOTION_SIZE), np.float32), own)
        made[label] = stream_sessions([clip], sampler, drive.stack.vae, [request.seed])[1][0]
    return made


def _samplers(request: SideBySide, drive: SpeechToMotion) -> Mapping[str, MotionGenerator]:
    student = load_unet(request.student)
    if request.compare == "temperature":
        heats = (0.0, 0.5, 1.0)
        return {
            f"temperature {heat:g}": other_sampler(student, drive, num_steps=STUDENT_STEPS, temperature=heat)
            for heat in heats
        }
    return {
        f"teacher, {TEACHER_STEPS} steps": other_sampler(load_unet(request.teacher), drive, num_steps=TEACHER_STEPS),
        f"student, {STUDENT_STEPS} steps": other_sampler(student, drive, num_steps=STUDENT_STEPS),
        "student, 1 step": other_sampler(student, drive, num_steps=1),
    }


def _pictures(
    motion: Array, renderer: AvatarRenderer, retarget: Retarget, space: MotionSpace, seed: int
) -> Iterator[NDArray[np.uint8]]:
    """RGB frames (size, size, 3) of an avatar that looks ahead and blinks."""
    import cv2

    shown = np.zeros_like(motion)
    shown[:, : BROW_CODES.stop] = motion[:, : BROW_CODES.stop]
    shown = retarget(space.clamp(shown))
    idle = IdleMotion(seed)
    for frame, row in enumerate(shown):
        row[LID_CODES] += idle.lid_closure(frame)
        i420 = renderer.render(row, HeadPose())
        yield np.asarray(cv2.cvtColor(i420, cv2.COLOR_YUV2RGB_I420), np.uint8)
