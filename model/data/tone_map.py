"""High dynamic range to standard: PQ and HLG in BT.2020 to display-referred BT.709.

Light is taken from the signal (SMPTE ST 2084 for PQ; BT.2100 inverse OETF and OOTF for HLG at a 1000 cd/m2 display),
rolled off by the EETF of Report ITU-R BT.2390 from 1000 cd/m2 to the reference white of BT.2408 (203 cd/m2), moved to
BT.709 primaries (BT.2087) and encoded by the inverse of BT.1886. Below about 90 cd/m2 nothing is compressed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

HdrTransfer = Literal["pq", "hlg"]
Array = NDArray[np.float64]

REFERENCE_WHITE_NITS = 203.0  # BT.2408: becomes the peak of the standard picture
PEAK_NITS = 1000.0  # brightest light that is still told apart; what phones and most masters reach
LATTICE = 33  # points per axis of the table
DISPLAY_GAMMA = 2.4  # BT.1886

_PQ_M1, _PQ_M2 = 2610 / 16384, 2523 / 4096 * 128
_PQ_C1, _PQ_C2, _PQ_C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
_PQ_PEAK_NITS = 10_000.0
_HLG_A, _HLG_B, _HLG_C = 0.17883277, 0.28466892, 0.55991073
_HLG_SYSTEM_GAMMA = 1.2
_LUMINANCE_2020 = np.array([0.2627, 0.6780, 0.0593])
_LUMINANCE_709 = np.array([0.2126, 0.7152, 0.0722])
_BT2020_TO_709 = np.array(
    [
        [1.660491, -0.587641, -0.072850],
        [-0.124550, 1.132900, -0.008349],
        [-0.018151, -0.100579, 1.118730],
    ]
)


def pq_to_nits(signal: Array) -> Array:
    """Light in cd/m2 of a PQ signal 0..1 (SMPTE ST 2084)."""
    root = np.clip(signal, 0.0, 1.0) ** (1 / _PQ_M2)
    return _PQ_PEAK_NITS * (np.maximum(root - _PQ_C1, 0.0) / (_PQ_C2 - _PQ_C3 * root)) ** (1 / _PQ_M1)


def nits_to_pq(nits: Array) -> Array:
    """PQ signal 0..1 of a light in cd/m2, the inverse of `pq_to_nits`."""
    power = (np.clip(nits, 0.0, _PQ_PEAK_NITS) / _PQ_PEAK_NITS) ** _PQ_M1
    return ((_PQ_C1 + _PQ_C2 * power) / (1 + _PQ_C3 * power)) ** _PQ_M2


def hlg_to_nits(signal: Array) -> Array:
    """Light in cd/m2 that a 1000 cd/m2 display shows for HLG signals 0..1, RGB on the last axis (BT.2100)."""
    clipped = np.clip(signal, 0.0, 1.0)
    high = (np.exp((np.maximum(clipped, 0.5) - _HLG_C) / _HLG_A) + _HLG_B) / 12
    scene = np.where(clipped <= 0.5, clipped**2 / 3, high)
    luminance: Array = (scene @ _LUMINANCE_2020)[..., None]
    return PEAK_NITS * luminance ** (_HLG_SYSTEM_GAMMA - 1) * scene


def roll_off(nits: Array) -> Array:
    """Light compressed from 0..`PEAK_NITS` to 0..`REFERENCE_WHITE_NITS` (BT.2390 EETF, no black lift)."""
    source_peak = nits_to_pq(np.array(PEAK_NITS))
    signal = np.minimum(nits_to_pq(nits) / source_peak, 1.0)
    top = nits_to_pq(np.array(REFERENCE_WHITE_NITS)) / source_peak
    knee = 1.5 * top - 0.5
    t = np.maximum(signal - knee, 0.0) / (1 - knee)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * top
    return pq_to_nits(np.where(signal < knee, signal, spline) * source_peak)


def to_standard(signal: Array, transfer: HdrTransfer) -> Array:
    """BT.709 signal 0..1 for BT.2020 signals 0..1, RGB on the last axis.

    The brightest of the three is rolled off and the other two scaled with it, which keeps the hue; what BT.709 cannot
    show is drawn towards grey of the same luminance until it can.
    """
    nits = pq_to_nits(signal) if transfer == "pq" else hlg_to_nits(signal)
    brightest = nits.max(-1, keepdims=True)
    scale = roll_off(brightest) / np.maximum(brightest, 1e-9)
    linear = (nits * scale / REFERENCE_WHITE_NITS) @ _BT2020_TO_709.T
    encoded: Array = np.power(_into_gamut(linear), 1 / DISPLAY_GAMMA)
    return encoded


def write_cube(path: Path, transfer: HdrTransfer, *, white: float = 1.0) -> None:
    """Write `to_standard` as a .cube table (red fastest) for FFmpeg's `lut3d` filter.

    Args:
        path: Where to.
        transfer: What the signals are.
        white: The filter's input, 0..1, that stands for a signal of 1.
    """
    axis = np.linspace(0.0, 1.0, LATTICE) / white
    blue, green, red = np.meshgrid(axis, axis, axis, indexing="ij")
    table = to_standard(np.stack([red, green, blue], -1).reshape(-1, 3), transfer)
    rows = "\n".join(f"{r:.6f} {g:.6f} {b:.6f}" for r, g, b in table.tolist())
    path.write_text(f"LUT_3D_SIZE {LATTICE}\n{rows}\n", encoding="ascii")


def _into_gamut(linear: Array) -> Array:
    grey = np.clip(linear @ _LUMINANCE_709, 0.0, 1.0)[..., None]
    away: Array = linear - grey
    with np.errstate(divide="ignore", invalid="ignore"):
        room = np.where(away > 0, (1 - grey) / away, np.where(away < 0, -grey / away, 1.0))
    share = np.clip(room.min(-1, keepdims=True), 0.0, 1.0)
    inside: Array = np.clip(grey + share * away, 0.0, 1.0)
    return inside
