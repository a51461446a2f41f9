"""A mirrored face: motion codes of the same expression with left and right exchanged (training's mirrored windows)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.motion.face_points import MOUTH
from model.motion.space import BROW_CODES, MOUTH_CODES, MotionSpace
from model.motion.vae import AUDIO_OWNED

_BROW_OPPOSITE = (2, 3, 0, 1)  # inner left, outer left, inner right, outer right


def mirror_matrix(space: MotionSpace) -> NDArray[np.float32]:
    """(20, 20) M with mirrored = codes @ M for what sound moves.

    Landmarks are paired by the neutral face: each point's opposite is the one nearest to its mirror image. Lip opening
    and width are kept; the weak lopsided codes only roughly, since 16 components do not span their mirror images.
    """
    rest = space.template[list(MOUTH)].astype(np.float64)
    flipped = rest * np.array([-1.0, 1.0, 1.0])
    opposite = np.linalg.norm(rest[:, None] - flipped[None], axis=-1).argmin(0)
    shapes = space.basis.astype(np.float64).reshape(len(space.basis), len(MOUTH), 3)
    mirrored = shapes[:, opposite] * np.array([-1.0, 1.0, 1.0])
    matrix = np.zeros((AUDIO_OWNED, AUDIO_OWNED), np.float64)
    matrix[MOUTH_CODES, MOUTH_CODES] = mirrored.reshape(len(shapes), -1) @ space.encoder
    for row, column in enumerate(_BROW_OPPOSITE):
        matrix[BROW_CODES.start + row, BROW_CODES.start + column] = 1.0
    return matrix.astype(np.float32)
