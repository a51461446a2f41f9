"""Who is rendered: `synthetic-person-1`, and which of ICT-FaceKit's shapes the labels list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

NAME: Final = "synthetic-person-1"
SAMPLES: Final = 20  # per pixel, at most

# Chosen for a pleasant, androgynous adult: full lips, a soft jaw, a small nose.
# fmt: off
IDENTITY_WEIGHTS: Final = (
    0.24373, 0.02952, -0.50304, -0.43688, -0.18733, 0.44028, 0.59665, -0.36847, -0.06722, 0.01812,
    0.59395, -0.11264, 0.53336, -0.04394, -0.37516, -0.43717, 0.62624, 0.50136, -0.27225, 0.12539,
    0.02762, -0.15616, -0.14532, -0.42221, 0.3073, -0.02674, -0.64046, 0.17579, -0.02115, 0.29969,
    -0.40386, 0.55298, 0.09995, 0.03908, -0.2239, 0.38416, -0.32133, -0.03044, 0.20307, -0.24265,
    -0.34416, -0.36453, 0.30159, 0.02973, 0.51361, -0.0334, 0.2234, 0.00612, -0.66761, -0.04234,
    -0.18296, -0.07469, -0.17169, -0.02141, 0.33403, 0.12762, -0.17181, 0.10845, -0.02199, 0.00277,
    -0.00994, 0.24995, -0.15933, 0.14027, 0.06318, 0.03078, 0.02316, -0.0061, 0.34162, -0.14956,
    0.13106, 0.03753, -0.08094, 0.03592, 0.00038, -0.16314, -0.0055, -0.00508, -0.27953, -0.03608,
    0.05405, -0.00609, 0.39305, 0.00163, 0.01762, -0.02662, 0.00349, 0.49555, 0.28236, -0.02582,
    0.15521, 0.00101, 0.25856, 0.03202, -0.06168, 0.02214, 0.1798, 0.00756, 0.2802, -0.04987,
)
# fmt: on

# A relaxed face: a slight smile, slightly lowered lids. Every coefficient vector contains it.
BASE: Final = {
    "mouthSmile_L": 0.15,
    "mouthSmile_R": 0.15,
    "eyeSquint_L": 0.05,
    "eyeSquint_R": 0.05,
    "eyeBlink_L": 0.10,
    "eyeBlink_R": 0.10,
}


def coefficient_names(expression_names: Sequence[str]) -> tuple[str, ...]:
    """The head's shapes that have an ARKit coefficient, in the head's order."""
    return tuple(n for n in expression_names if not n.startswith(("PupilDilate", "cheekRaiser")))
