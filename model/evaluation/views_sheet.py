"""What `evaluate views` shows: a sheet of truth, rendering and difference, and a film of the slow turn."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model.errors import InputError
from model.evaluation.report import Panel
from model.evaluation.report.video import write_panels
from model.evaluation.views import Views
from model.evaluation.views_capture import CaptureViews

__all__ = ["sheet", "write_sheet", "write_turn"]

COLUMNS: Final = 6  # at most, of truth, rendering and difference
DIFFERENCE_GAIN: Final = 4
GREY: Final = 128

Frames = NDArray[np.uint8]


def sheet(views: Views) -> Frames:
    """(H, W, 3) RGB. Held-out frames by yaw: truth, rendering, four times the difference about grey; below, the turn;
    below, a clip as filmed and turned."""
    rows: list[list[Frames]] = []
    if views.held_out is not None:
        rows += _compared(views.held_out)
    picked = np.linspace(0, len(views.turn.frames) - 1, COLUMNS).round().astype(int)
    rows.append([views.turn.frames[i] for i in picked])
    if views.turned_clip:
        rows.append(views.turned_clip[:COLUMNS])
    size = views.turn.frames.shape[1]
    blank = np.full((size, size, 3), 255, np.uint8)
    return np.concatenate([np.concatenate([*row, *[blank] * (COLUMNS - len(row))], 1) for row in rows]).astype(np.uint8)


def write_sheet(path: Path, views: Views) -> None:
    """Write the sheet as a picture file.

    Raises:
        InputError: OpenCV cannot write such a file there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = cv2.cvtColor(sheet(views), cv2.COLOR_RGB2BGR)
    try:
        written = cv2.imwrite(str(path), picture)
    except cv2.error as error:
        raise InputError(f"cannot write {path}: its name must end with .jpg or .png") from error
    if not written:
        raise InputError(f"cannot write {path}")


def write_turn(path: Path, views: Views) -> None:
    """Write the slow turn as H.264, 25 frames a second.

    Raises:
        InputError: The file cannot be written.
    """
    write_panels(path, [Panel(label="slow turn", origin="synthetic", frames=list(views.turn.frames))])


def _compared(views: CaptureViews) -> list[list[Frames]]:
    order = np.argsort(views.yaw_deg)
    picked = order[np.linspace(0, len(order) - 1, min(COLUMNS, len(order))).round().astype(int)]
    real, made = views.real[picked], views.made[picked]
    away = np.clip(GREY + DIFFERENCE_GAIN * (made.astype(np.int16) - real), 0, 255).astype(np.uint8)
    return [list(real), list(made), list(away)]
