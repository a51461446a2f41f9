"""What a caller asked of its avatar, from JSON values to the model's controls."""

from __future__ import annotations

import importlib
import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["EASE_S", "ControlsMaker"]

EASE_S = 0.12
"""Time constant with which the head follows what is asked: it turns, and does not jump."""
MOST_PICTURES = 8


class ControlsMaker:
    """Makes `model.state.Controls`; keeps the last few background pictures. Thread-safe.

    Values: yaw_deg, pitch_deg, roll_deg, gaze_rad ([yaw, pitch] or null), mood, mood_strength, head_motion, idle;
    background: "own", "#rrggbb" or a picture's id, and background_blur.
    """

    def __init__(self, backgrounds: Mapping[str, Path]) -> None:
        self._files = backgrounds
        self._made: OrderedDict[tuple[str, bool], Any] = OrderedDict()
        self._lock = threading.Lock()
        self._controls = importlib.import_module("model.state").Controls
        self._compositor = importlib.import_module("model.radiance.compositor")
        self._background_files = importlib.import_module("model.radiance.background_files")

    def __call__(self, values: Mapping[str, Any]) -> Any:
        """The controls.

        Raises:
            ValueError, InputError: A value cannot be used; the message names it.
        """
        given = dict(values)
        background = self._background(str(given.pop("background", "own")), bool(given.pop("background_blur", False)))
        pair = _pair(given.pop("gaze_rad", None))
        try:
            return self._controls(**given, gaze_rad=pair, background=background, ease_s=EASE_S)
        except TypeError as error:
            raise ValueError(f"unknown control: {error}") from error

    def reads_file(self, values: Mapping[str, Any]) -> bool:
        """Whether making these reads and scales a picture first, which may take a tenth of a second."""
        name, blurred = str(values.get("background", "own")), bool(values.get("background_blur", False))
        with self._lock:
            return name in self._files and (name, blurred) not in self._made

    def _background(self, name: str, blurred: bool) -> Any:
        if name == "own":
            return None
        with self._lock:
            if (name, blurred) in self._made:
                self._made.move_to_end((name, blurred))
                return self._made[name, blurred]
        made = self._make(name, blurred)
        with self._lock:
            self._made[name, blurred] = made
            if len(self._made) > MOST_PICTURES:
                self._made.popitem(last=False)
        return made

    def _make(self, name: str, blurred: bool) -> Any:
        if (color := self._background_files.parse_color(name)) is not None:
            return color
        if name not in self._files:
            known = ", ".join(("own", "#rrggbb", *sorted(self._files)))
            raise ValueError(f"there is no background {name[:40]!r}; known are {known}")
        picture = self._background_files.read_picture(self._files[name])
        return self._compositor.PictureBackground(
            picture, blur_share=self._background_files.BLUR_SHARE if blurred else 0.0
        )


def _pair(gaze: Any) -> tuple[float, float] | None:
    """Callers' own JSON comes here: it may be anything."""
    if gaze is None:
        return None
    try:
        yaw, pitch = gaze
        return float(yaw), float(pitch)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"gaze_rad must be two numbers, [yaw, pitch], or null, got {str(gaze)[:40]}") from None
