"""The visible mark: a short label in a bottom corner, drawn into I420 frames from bitmap glyphs (5 x 7)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from model.errors import InputError

__all__ = ["Corner", "MarkStyle", "VisibleMark"]

Corner = Literal["bottom-left", "bottom-right"]
MAX_CHARACTERS = 12
MIN_OPACITY = 0.4  # below, it can no longer be read; turning it off has its own flag
_GLYPH_ROWS, _ADVANCE = 7, 6
_PAPER, _INK, _GREY = 24, 225, 128

# One letter after another, column by column from the left, the lowest bit on top.
_GLYPHS = dict(
    zip(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 -.",
        (
            bytes.fromhex(columns)
            for columns in (
                "7e1111117e 7f49494936 3e41414122 7f4141221c 7f49494941 7f09090901 3e41495a3a 7f0808087f 00417f4100 "
                "2040413f01 7f08142241 7f40404040 7f020c027f 7f0408107f 3e4141413e 7f09090906 3e4151215e 7f09192946 "
                "4649494931 01017f0101 3f4040403f 1f2040201f 3f4038403f 6314081463 0708700807 6151494543 3e5149453e "
                "00427f4000 4261514946 2141454b31 1814127f10 2745454539 3c4a494930 0171090503 3649494936 064949291e "
                "0000000000 0808080808 0060600000"
            ).split()
        ),
        strict=True,
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkStyle:
    """How the label looks. `opacity` (0.4..1) blends it over the picture."""

    text: str = "AI"
    corner: Corner = "bottom-right"
    opacity: float = 0.8

    def __post_init__(self) -> None:
        unknown = sorted(set(self.text.upper()) - set(_GLYPHS))
        if unknown or not 0 < len(self.text.strip()) <= MAX_CHARACTERS:
            raise InputError(
                f"the mark's text must have 1..{MAX_CHARACTERS} of A-Z, 0-9, space, '-' and '.', got {self.text!r}"
            )
        if self.corner not in ("bottom-left", "bottom-right"):
            raise InputError(f"the mark's corner must be bottom-left or bottom-right, got {self.corner!r}")
        if not MIN_OPACITY <= self.opacity <= 1:
            raise InputError(f"the mark's opacity must be within {MIN_OPACITY}..1, got {self.opacity}")


class VisibleMark:
    """Draws one label into frames of one size."""

    def __init__(self, style: MarkStyle, *, size: int, mouth_box: tuple[float, float, float, float]) -> None:
        """`size` in pixels, even; `mouth_box` x0, y0, x1, y1 as shares of it.

        Raises:
            InputError: The label is too wide for the picture, or would cover the mouth.
        """
        cells = _rasterise(style.text.upper())
        zoom = max(1, round(size / 128))
        label = np.where(np.kron(cells, np.ones((zoom, zoom), bool)), _INK, _PAPER)
        margin = 2 * zoom
        height, width = (edge + edge % 2 for edge in label.shape)
        label = np.pad(label, ((0, height - label.shape[0]), (0, width - label.shape[1])), constant_values=_PAPER)
        left = margin if style.corner == "bottom-left" else size - margin - width
        top = size - margin - height
        left, top = left - left % 2, top - top % 2
        if left < 0 or width > size - 2 * margin:
            raise InputError(f"the mark {style.text!r} is {width} px wide, too wide for a picture of {size} px")
        x0, y0, x1, y1 = (share * size for share in mouth_box)
        if left < x1 and left + width > x0 and top < y1 and top + height > y0:
            raise InputError(f"the mark {style.text!r} would cover the mouth; choose a shorter text")
        self.box = (left, top, left + width, top + height)
        self._size = size
        self._kept = np.float32(1 - style.opacity)
        self._added = (label * style.opacity + 0.5).astype(np.float32)
        self._added_chroma = np.float32(_GREY * style.opacity + 0.5)

    def draw(self, frame: NDArray[np.uint8]) -> None:
        """Draw into an I420 frame (size * 3 // 2, size) in place."""
        left, top, right, bottom = self.box
        luma = frame[top:bottom, left:right]
        luma[:] = luma * self._kept + self._added
        half = self._size // 2
        chroma = frame[self._size :].reshape(2, half, half)[:, top // 2 : bottom // 2, left // 2 : right // 2]
        chroma[:] = chroma * self._kept + self._added_chroma


def _rasterise(text: str) -> NDArray[np.bool_]:
    """(rows, columns): the text with a border of two cells."""
    cells = np.zeros((_GLYPH_ROWS + 4, _ADVANCE * len(text) + 3), bool)
    for i, letter in enumerate(text):
        for column, bits in enumerate(_GLYPHS[letter]):
            for row in range(_GLYPH_ROWS):
                cells[2 + row, 2 + i * _ADVANCE + column] = bool(bits >> row & 1)
    return cells
