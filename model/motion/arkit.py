"""The 52 ARKit face coefficients: names in Apple's order, and how ICT-FaceKit's shapes and our codes relate to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

ARKIT_NAMES: Final = tuple(
    (
        "eyeBlinkLeft eyeLookDownLeft eyeLookInLeft eyeLookOutLeft eyeLookUpLeft eyeSquintLeft eyeWideLeft "
        "eyeBlinkRight eyeLookDownRight eyeLookInRight eyeLookOutRight eyeLookUpRight eyeSquintRight eyeWideRight "
        "jawForward jawLeft jawRight jawOpen mouthClose mouthFunnel mouthPucker mouthLeft mouthRight "
        "mouthSmileLeft mouthSmileRight mouthFrownLeft mouthFrownRight mouthDimpleLeft mouthDimpleRight "
        "mouthStretchLeft mouthStretchRight mouthRollLower mouthRollUpper mouthShrugLower mouthShrugUpper "
        "mouthPressLeft mouthPressRight mouthLowerDownLeft mouthLowerDownRight mouthUpperUpLeft mouthUpperUpRight "
        "browDownLeft browDownRight browInnerUp browOuterUpLeft browOuterUpRight cheekPuff cheekSquintLeft "
        "cheekSquintRight noseSneerLeft noseSneerRight tongueOut"
    ).split()
)
GAZE_FULL_YAW_RAD = 0.6  # eyeLookIn/Out reach 1 here
GAZE_FULL_PITCH_RAD = 0.5

_ARKIT_OF_BOTH = {"browInnerUp", "cheekPuff"}  # one coefficient where ICT has two


def arkit_from_ict(coefficients: NDArray[np.float32], names: Sequence[str]) -> NDArray[np.float32]:
    """ICT-FaceKit weights (F, K) to ARKit's (F, 52); tongueOut, which ICT lacks, stays 0."""
    out = np.zeros((len(coefficients), len(ARKIT_NAMES)), np.float32)
    for column, name in enumerate(ARKIT_NAMES):
        ict = name.replace("Left", "_L") if name.endswith("Left") and name not in _PLAIN else name
        ict = ict.replace("Right", "_R") if ict.endswith("Right") and name not in _PLAIN else ict
        if name in _ARKIT_OF_BOTH:
            pair = [names.index(f"{name}_{side}") for side in "LR"]
            out[:, column] = coefficients[:, pair].mean(1)
        elif ict in names:
            out[:, column] = coefficients[:, names.index(ict)]
    return out


def direct_arkit_rows() -> tuple[NDArray[np.float32], list[int]]:
    """Rows of the (52, 32) map that need no fit: blinks and gaze; returns the rows and their indices."""
    yaw, pitch = 1.0 / GAZE_FULL_YAW_RAD, 1.0 / GAZE_FULL_PITCH_RAD
    entries = {
        "eyeBlinkLeft": (20, 1.0),
        "eyeBlinkRight": (21, 1.0),
        "eyeLookOutLeft": (22, yaw),
        "eyeLookInLeft": (22, -yaw),
        "eyeLookOutRight": (22, -yaw),
        "eyeLookInRight": (22, yaw),
        "eyeLookUpLeft": (23, pitch),
        "eyeLookUpRight": (23, pitch),
        "eyeLookDownLeft": (23, -pitch),
        "eyeLookDownRight": (23, -pitch),
    }
    rows = np.zeros((len(entries), 32), np.float32)
    for row, (code, gain) in enumerate(entries.values()):
        rows[row, code] = gain
    return rows, [ARKIT_NAMES.index(name) for name in entries]


_PLAIN = {"jawLeft", "jawRight", "mouthLeft", "mouthRight"}  # directions, not sides
