"""Colors of the head's skin, lips, mouth and teeth: one linear RGB value per vertex, no texture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from scipy.spatial import cKDTree

from scripts.capture.hair import scalp_share
from scripts.capture.head import EYE_SOCKETS, FACE, GUMS_AND_TONGUE, HEAD_AND_NECK, MOUTH_SOCKET, TEETH, HeadRig
from scripts.capture.shapes import Array, catmull_rom, signed_distance, smoothstep
from scripts.capture.strands import brow_line

Color = Sequence[float]
SKIN: Final = (0.485, 0.252, 0.165)
RED: Final = (0.55, 0.19, 0.135)
LID: Final = (0.40, 0.19, 0.145)
UNDER_EYE: Final = (0.44, 0.21, 0.155)
NOSE_BASE: Final = (0.42, 0.17, 0.13)
FOREHEAD: Final = (0.56, 0.33, 0.235)
LIPS: Final = (0.385, 0.112, 0.098)
LASH_LINE: Final = (0.06, 0.03, 0.022)
BROW: Final = (0.09, 0.05, 0.03)
SCALP: Final = (0.035, 0.019, 0.012)
MOUTH_CAVITY: Final = (0.30, 0.075, 0.065)
EYE_SOCKET: Final = (0.55, 0.22, 0.18)
GUM: Final = (0.56, 0.17, 0.155)
TOOTH: Final = (0.72, 0.66, 0.55)


def skin_colors(rig: HeadRig) -> tuple[Array, Array]:
    """Linear RGB (EYEBALLS, 3) and how much of a lip each vertex is (EYEBALLS,), 0..1."""
    rest = rig.rest
    face = np.arange(len(rest)) < FACE
    colors = _mottled(_blushed(rig), rest)
    lip = _lip_share(rig, face)
    colors = _towards(colors, 0.88 * lip, LIPS)
    inner = catmull_rom(rig.landmarks[60:68, :2], 8, closed=True)
    seam = np.where(lip > 0.5, np.exp(-((signed_distance(rest[:, :2], inner) / 0.16) ** 2)), 0)
    colors = colors * (1 - 0.35 * seam)[:, None]
    colors = _lash_lines(colors, rig, face)
    colors = _towards(colors, 0.45 * _brow_share(rig, face), BROW)
    scalp = scalp_share(rest)
    scalp[HEAD_AND_NECK:] = 0
    return _insides(_towards(colors, 0.92 * scalp, SCALP), rest), lip


def _towards(colors: Array, share: Array, color: Color) -> Array:
    return np.asarray(colors * (1 - share[:, None]) + share[:, None] * np.asarray(color))


def _blushed(rig: HeadRig) -> Array:
    """Skin with its soft patches: cheeks, ears, nose and chin redder, lids darker, forehead lighter."""
    rest, marks = rig.rest, rig.landmarks
    colors = np.tile(np.array(SKIN), (len(rest), 1))

    def patch(center: Array | Color, radii: Color, color: Color, strength: float) -> None:
        nonlocal colors
        offset = (rest - np.asarray(center)) ** 2 / np.asarray(radii) ** 2
        colors = _towards(colors, strength * np.exp(-offset.sum(1)), color)

    for eye, corner in ((marks[36:42].mean(0), marks[48]), (marks[42:48].mean(0), marks[54])):
        cheek_y = (eye[1] * 0.42 + corner[1] * 0.58) + 0.3
        patch((eye[0] * 1.15, cheek_y, 8.6), (2.2, 1.7, 4), RED, 0.50)
        patch((eye[0], eye[1] - 1.1, eye[2]), (1.9, 0.8, 2.5), UNDER_EYE, 0.30)
        patch(eye + np.array([0, 0.75, 0]), (1.9, 0.75, 3), LID, 0.45)
        patch((np.sign(eye[0]) * 8.0, 2.0, 0.5), (1.8, 3.5, 3), RED, 0.45)  # ear
    patch(marks[30], (1.3, 1.0, 2.0), RED, 0.38)
    patch(marks[33], (1.6, 0.6, 1.5), NOSE_BASE, 0.25)
    patch(marks[8] + np.array([0, 0.8, 0]), (1.8, 1.2, 3), RED, 0.18)
    patch((0, 8.8, 10), (5.5, 2.4, 6), FOREHEAD, 0.35)
    return colors


def _mottled(colors: Array, rest: Array) -> Array:
    """Slow changes of brightness and redness, as living skin has."""
    colors = colors * (1 + 0.035 * _waves(rest, 1.2, 1) + 0.03 * _waves(rest, 4.0, 2))[:, None]
    return _towards(colors, np.clip(0.10 * _waves(rest, 0.8, 3) + 0.05, 0, 0.3), RED)


def _waves(points: Array, frequency: float, seed: int, count: int = 40) -> Array:
    """A smooth random field (P,) of about unit variance: a sum of plane waves."""
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(count, 3)) * frequency
    phase = rng.random(count) * 6.28
    return np.asarray(np.cos(points @ directions.T + phase).sum(1) / np.sqrt(count / 2))


def _lip_share(rig: HeadRig, face: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Array:
    outline = catmull_rom(rig.landmarks[48:60, :2], 10, closed=True)
    inside = 1 - smoothstep(signed_distance(rig.rest[:, :2], outline), -0.10, 0.12)
    return np.where(face & (rig.rest[:, 2] > 8.3), inside, 0)


def _lash_lines(colors: Array, rig: HeadRig, face: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Array:
    rest = rig.rest
    for first in (36, 42):
        eye = rig.landmarks[first : first + 6]
        distance = signed_distance(rest[:, :2], catmull_rom(eye[:, :2], 8, closed=True))
        near = np.where(face & (rest[:, 2] > 6), np.exp(-((np.maximum(distance, 0) / 0.13) ** 2)), 0)
        upper = rest[:, 1] > eye[:, 1].mean() - 0.05
        colors = _towards(colors, near * np.where(upper, 0.92, 0.42), LASH_LINE)
    return colors


def _brow_share(rig: HeadRig, face: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Array:
    """The shade under the brows' hairs."""
    share = np.zeros(len(rig.rest))
    for first in (17, 22):
        line = catmull_rom(rig.landmarks[first : first + 5], 12, closed=False)
        line = brow_line(line if first == 22 else line[::-1], bulge=0.0)
        distance, nearest = cKDTree(line).query(rig.rest)
        width = 0.30 * np.clip((1 - nearest / len(line)) * 4, 0.25, 1)
        share = np.maximum(share, np.where(face, np.exp(-((distance / width) ** 2)), 0))
    return share


def _insides(colors: Array, rest: Array) -> Array:
    """Mouth cavity, eye sockets, gums, tongue and teeth: darker the deeper they lie."""
    socket = slice(HEAD_AND_NECK, MOUTH_SOCKET)
    gums = slice(EYE_SOCKETS, GUMS_AND_TONGUE)
    teeth = slice(GUMS_AND_TONGUE, TEETH)
    colors[socket] = np.array(MOUTH_CAVITY) * (0.40 + 0.60 * smoothstep(rest[socket, 2], 6.5, 10.5))[:, None]
    colors[MOUTH_SOCKET:EYE_SOCKETS] = EYE_SOCKET
    colors[gums] = np.array(GUM) * (0.55 + 0.45 * smoothstep(rest[gums, 2], 4, 9.5))[:, None]
    colors[teeth] = np.array(TOOTH) * (0.35 + 0.60 * smoothstep(rest[teeth, 2], 6.5, 10.0))[:, None]
    return colors
