"""Colours: BT.601 and BT.709, full and limited range, 10 bit, and high dynamic range brought to standard."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from model.data.clip_types import Note
from model.data.tone_map import hlg_to_nits, nits_to_pq, pq_to_nits, roll_off, to_standard
from model.data.video import ReadSettings, VideoClip, read_video
from tests.support.video_files import Picture, even_times, write_video

SILENT = ReadSettings(need_audio=False)
LOSSLESS = (("qp", "0"), ("preset", "ultrafast"))
STEPS = 33
PQ, HLG, BT2020 = 16, 18, 9


def test_pq_at_published_points() -> None:
    """Report ITU-R BT.2408, Table 1: 100, 203 and 1000 cd/m2 are 51, 58 and 75 per cent PQ."""
    np.testing.assert_allclose(nits_to_pq(np.array([100.0, 203.0, 1000.0])), [0.508, 0.581, 0.752], atol=5e-4)
    nits = np.array([0.0, 0.01, 1.0, 100.0, 5000.0, 10_000.0])
    np.testing.assert_allclose(pq_to_nits(nits_to_pq(nits)), nits, rtol=1e-6, atol=1e-6)


def test_hlg_at_published_points() -> None:
    """BT.2408: diffuse white is 75 per cent HLG and 203 cd/m2; full signal is the display's peak."""
    grey = np.repeat(np.array([[0.75], [1.0], [0.0]]), 3, axis=1)
    np.testing.assert_allclose(hlg_to_nits(grey)[:, 0], [203.0, 1000.0, 0.0], atol=1.0)


def test_shoulder_is_smooth_keeps_the_dark_and_ends_at_white() -> None:
    nits = np.linspace(0.0, 1000.0, 4001)
    mapped = roll_off(nits)
    np.testing.assert_allclose(mapped[nits < 85], nits[nits < 85], atol=1e-6)
    assert mapped[-1] == pytest.approx(203.0, abs=0.01)
    slope = np.diff(mapped) / np.diff(nits)
    assert (slope >= -1e-9).all() and slope.max() < 1.001
    assert np.abs(np.diff(slope)).max() < 0.01  # no corner


def test_colours_stay_in_gamut_and_greys_stay_grey() -> None:
    rng = np.random.default_rng(2)
    colours = to_standard(rng.random((4000, 3)), "pq")
    assert np.isfinite(colours).all() and colours.min() >= 0 and colours.max() <= 1
    greys = to_standard(np.repeat(np.linspace(0, 1, 65)[:, None], 3, 1), "hlg")
    np.testing.assert_allclose(greys, greys[:, :1].repeat(3, 1), atol=2e-3)
    assert (np.diff(greys[:, 1]) >= 0).all()


def test_a_bt709_colour_within_bt2020_comes_back(tmp_path: Path) -> None:
    """A colour below the knee: BT.709 light taken to BT.2020 by the inverse matrix, to PQ, and mapped."""
    to_2020 = np.array([[0.627404, 0.329283, 0.043313], [0.069097, 0.919540, 0.011362], [0.016391, 0.088013, 0.895595]])
    light = np.array([0.30, 0.08, 0.05])  # of reference white: 61, 16 and 10 cd/m2
    signal = nits_to_pq(to_2020 @ light * 203.0)
    np.testing.assert_allclose(to_standard(signal, "pq"), light ** (1 / 2.4), atol=1e-3)


@pytest.mark.parametrize(("transfer", "code"), [("pq", PQ), ("hlg", HLG)])
def test_hdr_grey_ramp_from_a_file(tmp_path: Path, transfer: str, code: int) -> None:
    signal = np.linspace(0.0, 1.0, STEPS)
    clip = read_ramp(tmp_path, signal, transfer=code)
    assert clip.info.bit_depth == 10 and clip.info.transfer == transfer
    assert clip.notes == (f"{Note.HIGH_DYNAMIC_RANGE} ({transfer.upper()})",)
    found = steps_of(clip)
    wanted = 255 * to_standard(np.repeat(signal[:, None], 3, 1), "pq" if transfer == "pq" else "hlg")
    assert np.abs(found - wanted).max() < 2.5, (found[:, 0], wanted[:, 0])
    assert (np.diff(found.mean(-1)) >= -0.01).all()
    white = int(np.abs(signal - (0.58 if transfer == "pq" else 0.75)).argmin())  # diffuse white
    assert 220 < found[white].mean() < 240


def test_ten_bit_standard_range_is_not_tone_mapped(tmp_path: Path) -> None:
    signal = np.linspace(0.0, 1.0, STEPS)
    clip = read_ramp(tmp_path, signal, transfer=1)
    assert clip.info.bit_depth == 10 and clip.notes == ()
    np.testing.assert_allclose(steps_of(clip), 255 * np.repeat(signal[:, None], 3, 1), atol=1.5)


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize(("height", "matrix"), [(48, 2), (48, 1), (720, 2)])
def test_range_and_matrix(tmp_path: Path, full_range: bool, height: int, matrix: int) -> None:
    """Saturated colours come back; what names no matrix is BT.601 when small and BT.709 from 720 lines on."""
    colours = np.array([[200, 40, 40], [40, 180, 60], [50, 60, 210], [250, 250, 250], [8, 8, 8]], np.uint8)
    meant = 1 if matrix == 1 or height >= 720 else 5

    def draw(number: int, picture: Picture) -> VideoFrame:
        pixels = np.repeat(np.repeat(colours, 16, 0)[None], picture.height, 0)
        frame = VideoFrame.from_ndarray(pixels, format="rgb24")
        return frame.reformat(format="yuv420p", dst_colorspace=meant, dst_color_range=2 if full_range else 1, threads=1)

    picture = Picture(width=80, height=height, options=LOSSLESS, matrix=matrix, full_range=full_range)
    clip = read_video(write_video(tmp_path / "clip.mp4", even_times(25, 25), picture=picture, draw=draw), SILENT)
    found = next(clip.frames())[20, 8::16]
    assert np.abs(found.astype(int) - colours.astype(int)).max() <= 4, found


def read_ramp(folder: Path, signal: NDArray[np.float64], *, transfer: int) -> VideoClip:
    """A clip of grey bars, 16 px each, of the given signals, in limited-range 10 bit."""

    def draw(number: int, picture: Picture) -> VideoFrame:
        frame = VideoFrame(picture.width, picture.height, "yuv420p10le")
        luma = np.repeat(np.round(64 + 876 * signal).astype(np.uint16), 16)
        for plane, row in zip(frame.planes, (luma, np.full(8 * STEPS, 512), np.full(8 * STEPS, 512)), strict=True):
            filled = np.zeros((plane.height, plane.line_size // 2), np.uint16)
            filled[:, : len(row)] = row
            plane.update(filled.tobytes())
        return frame

    wide = BT2020 if transfer in (PQ, HLG) else 1
    picture = Picture(
        width=16 * STEPS,
        height=32,
        pix_fmt="yuv420p10le",
        options=LOSSLESS,
        matrix=wide,
        primaries=wide,
        transfer=transfer,
    )
    return read_video(write_video(folder / "ramp.mp4", even_times(25, 25), picture=picture, draw=draw), SILENT)


def steps_of(clip: VideoClip) -> NDArray[np.float64]:
    """(STEPS, 3) colours of the bars' middles."""
    return next(clip.frames())[16, 8::16].astype(np.float64)
