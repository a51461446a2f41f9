"""Which MediaPipe Face Mesh landmarks the motion space is measured on (indices of the 478-point topology).

Left and right are the subject's own; the subject's left is on the right side of an unmirrored picture.
"""

from __future__ import annotations

from typing import Final

LIPS_OUTER: Final = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
LIPS_INNER: Final = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191)
JAW: Final = (172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 199, 200, 175, 18, 83, 313)
CHEEKS: Final = (205, 425, 187, 411, 207, 427, 216, 436, 212, 432, 57, 287, 43, 273, 106, 335, 164, 167, 393)

MOUTH: Final = (*LIPS_OUTER, *LIPS_INNER, *JAW, *CHEEKS)
"""Landmarks behind the 16 mouth, jaw and cheek codes, in this order."""

RIGID: Final = tuple(
    int(i)
    for i in (
        "33 133 362 263 168 6 197 195 10 151 9 8 109 338 67 297 103 332 54 284 127 356 234 454 21 251 162 389"
    ).split()
)
"""Upper-face points that speech hardly moves: they carry the head pose."""

EYE_CORNERS_RIGHT: Final = (33, 133)
EYE_CORNERS_LEFT: Final = (362, 263)
LIDS_RIGHT: Final = ((159, 145), (158, 153), (160, 144))
LIDS_LEFT: Final = ((386, 374), (385, 380), (387, 373))
BROWS: Final = {
    "browInnerLeft": (336, 285, 296),
    "browOuterLeft": (300, 276, 293),
    "browInnerRight": (107, 55, 66),
    "browOuterRight": (70, 46, 63),
}
IRIS_RIGHT: Final = 468
IRIS_LEFT: Final = 473

UPPER_LIP_INNER: Final = 13
LOWER_LIP_INNER: Final = 14
LIP_CORNERS: Final = (61, 291)
