"""An avatar from all sides: what `nerf-lipsync evaluate views` measures.

Every avatar: equal frames for equal input, a slow turn. With a rendered capture: head turns against frames that were
held out, an orbiting camera, landmarks, closed and open mouths. With prepared clips of the avatar's person: turned
views against the frontal ones. Definitions: docs/evaluation.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.avatar import AvatarConfig, load_avatar
from model.data.capture import Capture
from model.errors import ConfigError
from model.evaluation.views_capture import (
    CaptureViews,
    head_turn_figures,
    held_out_views,
    orbit_figures,
    sequence_views,
)
from model.evaluation.views_clips import TurnedClips, turned_clip_figures
from model.evaluation.views_motion import SlowTurn, still_figures, turn_figures, turn_once, uneven_change
from model.evaluation.views_mouth import closed_lip_figures, landmark_figures, open_mouth_figures, track_views
from model.motion.space import load_motion_space
from model.radiance.serving import AvatarRenderer
from model.results import Figure
from model.training.capture_pairs import capture_motion

__all__ = ["Views", "ViewsEvaluation", "evaluate_views", "held_out_frames"]

SIZE_PX: Final = 256
SEQUENCE_STRIDE: Final = 3
UNEVEN_GOAL_PERCENT: Final = 0.5
HELD_OUT = re.compile(r"last (\d+) held out")  # as `train avatar` writes it into avatar.json


@dataclass(frozen=True, kw_only=True)
class ViewsEvaluation:
    """What to evaluate on what."""

    face_landmarker: Path  # MediaPipe's bundle
    avatar: Path | None = None  # None: the shipped one
    capture: Path | None = None
    ict: Path | None = None  # ICT-FaceKit: the capture's coefficients become motion through it
    hold_out: int = 60  # the last so many frames of the capture's `train`
    clips: TurnedClips | None = None

    def __post_init__(self) -> None:
        if (self.capture is None) != (self.ict is None):
            raise ConfigError("a capture needs ICT-FaceKit, and the other way round: give both or neither")
        if self.hold_out < 1:
            raise ConfigError(f"at least one frame must be held out, got {self.hold_out}")


@dataclass(frozen=True, kw_only=True)
class Views:
    """Figures, and what a sheet and a video show."""

    figures: dict[str, Figure]
    data: str
    turn: SlowTurn
    held_out: CaptureViews | None = None
    turned_clip: list[NDArray[np.uint8]] = field(default_factory=list)


def evaluate_views(config: ViewsEvaluation, on_part: Callable[[str], None] | None = None) -> Views:
    """Everything that the given data allows; `on_part` is told what begins.

    Raises:
        ModelError: A file is missing or damaged, the avatar needs another motion space, or no face is found.
    """
    say = on_part or (lambda _: None)
    avatar = load_avatar(config.avatar, motion_space=load_motion_space().hash)
    renderer = AvatarRenderer(avatar, size_px=SIZE_PX)
    say("still pose and slow turn")
    turn = turn_once(renderer)
    figures = {**still_figures(renderer), **turn_figures(turn), **uneven_figures(renderer)}
    held_out: CaptureViews | None = None
    shown: list[NDArray[np.uint8]] = []
    data = [f"avatar {avatar.config.name}"]
    if config.capture is not None and config.ict is not None:
        say("the capture")
        found, held_out = _on_capture(config, config.capture, config.ict, renderer)
        figures |= found
        data.append(_what_was_held_out(avatar.config, config.hold_out))
    if config.clips is not None:
        say("turned clips")
        found, shown = turned_clip_figures(config.clips, renderer)
        figures |= found
        data.append(f"motion of prepared clips ({config.clips.prepared.name}), turned")
    return Views(figures=figures, data="; ".join(data), turn=turn, held_out=held_out, turned_clip=shown)


def uneven_figures(renderer: AvatarRenderer) -> dict[str, Figure]:
    """`uneven_change` as figures."""
    unsteady, rms = uneven_change(renderer)
    goal = UNEVEN_GOAL_PERCENT
    return {
        "sweep_unsteady_pixels": Figure(value=round(unsteady * 100, 3), unit="%", goal=goal, better="lower"),
        "sweep_second_difference_rms": Figure(value=round(rms, 3), unit="levels", better="lower"),
    }


def held_out_frames(config: AvatarConfig) -> int:
    """How many of the last frames of `train` an avatar's provenance says were held out; 0: it says nothing."""
    found = HELD_OUT.search(config.provenance)
    return int(found.group(1)) if found else 0


def _on_capture(
    config: ViewsEvaluation, folder: Path, ict: Path, renderer: AvatarRenderer
) -> tuple[dict[str, Figure], CaptureViews]:
    capture, motion = Capture.open(folder), capture_motion(ict, folder)
    held_out = held_out_views(capture, motion, renderer, config.hold_out)
    tracked = track_views(held_out, config.face_landmarker)
    speaking = sequence_views(capture, motion, renderer, SEQUENCE_STRIDE)
    figures = {
        "held_out_and_not_trained_on": Figure(
            value=float(min(held_out_frames(renderer.avatar.config), config.hold_out)),
            unit="frames",
            goal=float(config.hold_out),
            better="higher",
        ),
        **head_turn_figures(held_out),
        **orbit_figures(capture, motion, renderer),
        **landmark_figures(tracked),
    }
    if len(speaking.made):
        spoken = track_views(speaking, config.face_landmarker)
        figures |= {f"sequence_{name}": figure for name, figure in landmark_figures(spoken).items()}
        figures |= {f"sequence_{name}": figure for name, figure in closed_lip_figures(spoken).items()}
        figures |= {f"sequence_{name}": figure for name, figure in open_mouth_figures(speaking).items()}
    return {**figures, **closed_lip_figures(tracked), **open_mouth_figures(held_out)}, held_out


def _what_was_held_out(config: AvatarConfig, asked: int) -> str:
    said = held_out_frames(config)
    if said >= asked:
        return f"rendered capture, the last {asked} frames of `train`, not trained on"
    return (
        f"rendered capture, the last {asked} frames of `train`, of which avatar.json says {said} were held out: "
        "the others may have been trained on"
    )
