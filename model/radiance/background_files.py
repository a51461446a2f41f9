"""Backgrounds by name: the avatar's own, nothing, a color, or a picture file."""

from __future__ import annotations

import re
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from model.errors import InputError
from model.radiance.compositor import Backdrop, Background, PictureBackground

__all__ = ["BLUR_SHARE", "parse_color", "read_background", "read_picture"]

BLUR_SHARE = 0.03
"""Standard deviation of a blurred background, of the picture's side."""
MOST_PIXELS = 4096 * 4096
_COLOR = re.compile(r"#([0-9a-fA-F]{6})")


def parse_color(text: str) -> Background | None:
    """The plain background that `#rrggbb` names; None: no such name."""
    match = _COLOR.fullmatch(text)
    if match is None:
        return None
    red, green, blue = bytes.fromhex(match.group(1))
    return Background(top=(red, green, blue), bottom=(red, green, blue))


def read_background(text: str, *, blurred: bool = False) -> Backdrop | None:
    """What `text` names: "own" (None: the avatar's own), `#rrggbb`, or a picture file.

    Raises:
        InputError: Not one of these, the picture cannot be used, or what is to be blurred is no picture.
    """
    color = parse_color(text)
    if blurred and (text == "own" or color is not None):
        raise InputError(f"only a picture can be blurred, and the background is {text!r}; name a picture file")
    if text == "own" or color is not None:
        return color
    path = Path(text)
    if not path.is_file():
        raise InputError(f"no background {text!r}: give own, #rrggbb (a color, six digits), or a picture file")
    return PictureBackground(read_picture(path), blur_share=BLUR_SHARE if blurred else 0.0)


def read_picture(path: Path) -> NDArray[np.uint8]:
    """(H, W, 3) RGB of a picture file, at most 4096 x 4096.

    Raises:
        InputError: It cannot be read, or is larger.
    """
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            if stream.width * stream.height > MOST_PIXELS:
                raise InputError(f"background {path.stem}: {stream.width} x {stream.height} is larger than 4096 x 4096")
            return np.asarray(next(container.decode(stream)).to_ndarray(format="rgb24"), np.uint8)
    except (OSError, IndexError, StopIteration, av.FFmpegError) as error:
        raise InputError(f"background {path.stem} cannot be read: {error}") from error
