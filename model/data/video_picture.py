"""A decoded picture as upright RGB of limited size and standard dynamic range."""

from __future__ import annotations

import tempfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter
from numpy.typing import NDArray

from model.data.clip_types import ClipError, Problem
from model.data.tone_map import HdrTransfer, write_cube
from model.data.video_probe import VideoInfo

_KNOWN_MATRICES = {1, 4, 5, 6, 7, 9, 10}  # ITU-T H.273 MatrixCoefficients that swscale knows
_BT709, _BT601, _BT2020, _RGB = 1, 6, 9, 0
_EXACT = Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT  # the faster path errs by up to 2.5 of 255
_SWSCALE_WHITE = 0xFF00 / 0xFFFF  # what swscale gives for white in 16 bit
_HD_HEIGHT_PX = 720  # a picture from this height on that names no matrix is taken as BT.709, below as BT.601


def limited_size(info: VideoInfo, max_side_px: int) -> tuple[int, int]:
    """Upright width and height with the longer side at most `max_side_px`; never enlarged."""
    scale = min(Fraction(1), Fraction(max_side_px, max(info.width, info.height)))
    return max(1, round(info.width * scale)), max(1, round(info.height * scale))


class PictureMaker:
    """Turns pictures of one file into RGB arrays of one size.

    Args:
        path: The file, for messages.
        info: How its pictures are stored.
        width: Upright width wanted, in pixels.
        height: Upright height wanted, in pixels.
    """

    def __init__(self, path: Path, info: VideoInfo, width: int, height: int) -> None:
        self._path = path
        self.info = info
        self.frame_bytes = width * height * 3  # of one array
        turned = info.rotation_deg in (90, 270)
        self._stored_size = (height, width) if turned else (width, height)
        self._reformatter = VideoReformatter()
        self._tone_map = None if info.transfer == "sdr" else _tone_map_graph(info.transfer, *self._stored_size)

    def rgb(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """One picture, (height, width, 3), 0..255, contiguous.

        Raises:
            ClipError: Its pixel format cannot be converted.
        """
        try:
            small = self._scaled(frame)
            pixels = small.to_ndarray() if self._tone_map is None else _mapped(self._tone_map, small)
        except (av.FFmpegError, ValueError) as error:
            text = f"{self._path} stores pictures as {frame.format.name}, which cannot be converted ({error})"
            raise ClipError(Problem.NOT_A_VIDEO, f"{text}; encode it as H.264") from error
        return _upright(pixels.astype(np.uint8, copy=False), self.info)

    def _scaled(self, frame: VideoFrame) -> VideoFrame:
        width, height = self._stored_size
        if not frame.format.is_rgb and frame.colorspace not in _KNOWN_MATRICES:
            frame.colorspace = self._guessed_matrix(frame)
        shrinks = width < frame.width or height < frame.height
        return self._reformatter.reformat(
            frame,
            width=width,
            height=height,
            format="rgb24" if self._tone_map is None else "gbrp16le",
            interpolation=_EXACT | (Interpolation.AREA if shrinks else Interpolation.BILINEAR),
            dst_color_range=ColorRange.JPEG,
            threads=1,
        )

    def _guessed_matrix(self, frame: VideoFrame) -> int:
        if self.info.transfer != "sdr":
            return _BT2020
        return _BT709 if frame.height >= _HD_HEIGHT_PX else _BT601


def _tone_map_graph(transfer: HdrTransfer, width: int, height: int) -> Graph:
    graph = Graph()
    with tempfile.TemporaryDirectory(prefix="nerf-lipsync-") as folder:
        table = Path(folder) / "table.cube"
        write_cube(table, transfer, white=_SWSCALE_WHITE)
        source = graph.add(
            "buffer",
            video_size=f"{width}x{height}",
            pix_fmt="gbrp16le",
            time_base="1/25",
            range="pc",
            colorspace="gbr",
        )
        graph.link_nodes(
            source,
            graph.add("lut3d", file=str(table), interp="tetrahedral"),
            graph.add("format", pix_fmts="rgb24"),
            graph.add("buffersink"),
        ).configure()
    return graph


def _mapped(graph: Graph, frame: VideoFrame) -> NDArray[np.uint8]:
    frame.colorspace, frame.color_range = _RGB, ColorRange.JPEG
    graph.vpush(frame)
    return graph.vpull().to_ndarray().astype(np.uint8, copy=False)


def _upright(pixels: NDArray[np.uint8], info: VideoInfo) -> NDArray[np.uint8]:
    if info.rotation_deg:
        pixels = np.rot90(pixels, k=-info.rotation_deg // 90)
    if info.is_mirrored:
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
