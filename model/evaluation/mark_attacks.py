"""What happens to video on its way: codecs, resizing, cropping, brightness, and what people do on purpose.

An attack is a chain of steps, each from I420 frames (height * 3 // 2, width) to I420 frames of any even size.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from model.pipeline import FPS

__all__ = ["ATTACKS", "STRESSES", "Attack", "encoded", "luma_of"]

Frame = NDArray[np.uint8]
Frames = Sequence[Frame]
Step = Callable[[Frames], list[Frame]]
LUMA_LOW, LUMA_HIGH = 16, 235


@dataclass(frozen=True)
class Attack:
    """A name and steps, done one after another."""

    name: str
    steps: tuple[Step, ...]

    def __call__(self, frames: Frames) -> list[Frame]:
        """The frames after all steps."""
        attacked = list(frames)
        for step in self.steps:
            attacked = step(attacked)
        return attacked


def luma_of(frame: Frame) -> Frame:
    """Luma plane (height, width) of an I420 frame."""
    return frame[: frame.shape[0] * 2 // 3]


def encoded(frames: Frames, codec: str, rate_bps: int, options: dict[str, str]) -> list[Frame]:
    """Frames after a codec of FFmpeg at a bit rate, 25 fps."""
    kind = "webm" if codec.startswith("libvpx") else "mp4"
    height, width = luma_of(frames[0]).shape
    file = io.BytesIO()
    with av.open(file, "w", format=kind) as container:
        stream: Any = container.add_stream(codec, rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = width, height, "yuv420p", rate_bps
        for index, data in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(data), format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    file.seek(0)
    with av.open(file, "r") as container:
        return [_array(frame) for frame in container.decode(video=0)]


def vp8(rate_bps: int) -> Step:
    """VP8 as a live call uses it: real-time mode, constant rate."""
    options = {"deadline": "realtime", "cpu-used": "8", "minrate": str(rate_bps), "maxrate": str(rate_bps)}
    return lambda frames: encoded(frames, "libvpx", rate_bps, options)


def h264(rate_bps: int) -> Step:
    """H.264 as a fast upload uses it."""
    return lambda frames: encoded(frames, "libx264", rate_bps, {"preset": "veryfast"})


def rescale(rows: float, columns: float) -> Step:
    """Bicubic resizing to shares of height and width, as FFmpeg does it; never resized back."""

    def step(frames: Frames) -> list[Frame]:
        height, width = luma_of(frames[0]).shape
        new_height, new_width = _even(height * rows), _even(width * columns)
        made = (av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="yuv420p") for frame in frames)
        return [_array(f.reformat(width=new_width, height=new_height, interpolation="BICUBIC")) for f in made]

    return step


def crop(share: float) -> Step:
    """Cut off a share of the width and height at every edge."""

    def step(frames: Frames) -> list[Frame]:
        return [_cropped(frame, share) for frame in frames]

    return step


def gain(factor: float) -> Step:
    """Brightness: distance from black times a factor, kept within video range."""
    return _on_luma(lambda luma: (luma - LUMA_LOW) * factor + LUMA_LOW)


def mirror() -> Step:
    """Left and right swapped."""
    return _on_luma(lambda luma: luma[:, ::-1])


def blur(sigma_px: float) -> Step:
    """Gaussian blur of the luma."""
    from scipy.ndimage import gaussian_filter

    return _on_luma(lambda luma: gaussian_filter(luma, sigma_px))


def rotate(degrees: float) -> Step:
    """Turned about the middle."""
    from scipy.ndimage import rotate as turned

    return _on_luma(lambda luma: turned(luma, degrees, reshape=False, order=1, mode="nearest"))


def noise(deviation: float, seed: int = 0) -> Step:
    """Grain, new in each frame."""
    rng = np.random.default_rng(seed)
    return _on_luma(lambda luma: luma + rng.normal(0.0, deviation, luma.shape))


def fewer(every: int) -> Step:
    """One frame of so many."""
    return lambda frames: list(frames[::every])


def _on_luma(change: Callable[[NDArray[np.float64]], NDArray[np.floating]]) -> Step:
    def one(frame: Frame) -> Frame:
        out = frame.copy()
        changed = np.rint(change(luma_of(frame).astype(np.float64)))
        luma_of(out)[:] = np.clip(changed, LUMA_LOW, LUMA_HIGH).astype(np.uint8)
        return out

    return lambda frames: [one(frame) for frame in frames]


def _cropped(frame: Frame, share: float) -> Frame:
    luma = luma_of(frame)
    height, width = luma.shape
    top, left = _even(height * share), _even(width * share)
    halves = frame[height:].reshape(2, height // 2, width // 2)
    chroma = halves[:, top // 2 : (height - top) // 2, left // 2 : (width - left) // 2]
    kept = luma[top : height - top, left : width - left]
    return np.concatenate([kept, chroma.reshape(-1, kept.shape[1])])


def _array(frame: av.VideoFrame) -> Frame:
    return np.asarray(frame.to_ndarray(format="yuv420p"), np.uint8)


def _even(size: float) -> int:
    return round(size / 2) * 2


ATTACKS = (
    Attack("none", ()),
    Attack("vp8_500k", (vp8(500_000),)),
    Attack("h264_1m", (h264(1_000_000),)),
    Attack("rescale_75", (rescale(0.75, 0.75),)),
    Attack("crop_10", (crop(0.1),)),
    Attack("darker_20", (gain(0.8),)),
    Attack("brighter_20", (gain(1.2),)),
    Attack("vp8_500k_darker_rescale_crop", (vp8(500_000), gain(0.8), rescale(0.75, 0.75), crop(0.1))),
    Attack("h264_1m_brighter_rescale_crop", (h264(1_000_000), gain(1.2), rescale(0.75, 0.75), crop(0.1))),
)
"""What the mark has to survive, alone and together."""

STRESSES = (
    Attack("vp8_200k", (vp8(200_000),)),
    Attack("vp8_100k", (vp8(100_000),)),
    Attack("h264_200k", (h264(200_000),)),
    Attack("h264_100k", (h264(100_000),)),
    Attack("vp8_500k_then_h264_200k", (vp8(500_000), h264(200_000))),
    Attack("rescale_50", (rescale(0.5, 0.5),)),
    Attack("rescale_40", (rescale(0.4, 0.4),)),
    Attack("enlarge_300_h264_1m", (rescale(3.0, 3.0), h264(1_000_000))),
    Attack("crop_25", (crop(0.25),)),
    Attack("mirror", (mirror(),)),
    Attack("blur_1px", (blur(1.0),)),
    Attack("blur_2px", (blur(2.0),)),
    Attack("noise_10", (noise(10.0),)),
    Attack("five_frames", (fewer(5),)),
    Attack("rotate_half_degree", (rotate(0.5),)),
    Attack("rotate_2_degrees", (rotate(2.0),)),
    Attack("squeeze_to_4_3", (rescale(0.75, 1.0),)),
)
"""Harder than what is asked: where it ends."""
