"""Folding of the encoder's phoneme classes: to the CMU dictionary's 39 phones, and to 12 mouth shapes.

The mouth shapes are the 14 visemes of MPEG-4 (ISO/IEC 14496-2, face animation) with its three alveolar ones (t d, s z,
n l), which differ behind the teeth only, taken as one. What the standard leaves out is placed by the lips: hh with the
sounds of the throat, y with i, w with u, er with r, diphthongs by where they begin. Silence is not among the 12.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.speech.phonemes import PHONEMES

CMU_PHONES: Final = (
    "aa ae ah ao aw ay b ch d dh eh er ey f g hh ih iy jh k l m n ng ow oy p r s sh t th uh uw v w y z zh"
).split()
"""The 39 phones of the CMU pronouncing dictionary."""
NEAREST_CMU: Final = {"ax": "ah", "ue": "uw", "oe": "er", "kh": "hh", "nas": "aa"}
"""What an English ear takes the other classes for."""
VISEMES: Final = {
    "PP": "p b m",
    "FF": "f v",
    "TH": "th dh",
    "DD": "t d n l s z",
    "KK": "k g ng hh",
    "CH": "ch jh sh zh",
    "RR": "r er",
    "AA": "aa ae ah ay aw",
    "EE": "eh ey",
    "II": "ih iy y",
    "OO": "ao ow oy",
    "UU": "uw uh w",
}
"""The 12 mouth shapes, by CMU phones."""
SILENCE: Final = "sil"
PHONE_NAMES: Final = (*CMU_PHONES, SILENCE)
VISEME_NAMES: Final = (*VISEMES, SILENCE)
BILABIAL_VISEME: Final = VISEME_NAMES.index("PP")


def to_cmu(phoneme: str) -> str:
    """The CMU phone of a class, or `sil`."""
    return NEAREST_CMU.get(phoneme, phoneme)


def to_viseme(phoneme: str) -> str:
    """The mouth shape of a class, or `sil`."""
    phone = to_cmu(phoneme)
    return next((name for name, phones in VISEMES.items() if phone in phones.split()), SILENCE)


PHONE_OF: Final[NDArray[np.int64]] = np.array([PHONE_NAMES.index(to_cmu(p)) for p in PHONEMES], np.int64)
"""(classes,) index into PHONE_NAMES of each phoneme class."""
VISEME_OF: Final[NDArray[np.int64]] = np.array([VISEME_NAMES.index(to_viseme(p)) for p in PHONEMES], np.int64)
"""(classes,) index into VISEME_NAMES of each phoneme class."""


def fold(posteriors: NDArray[np.float32], groups: NDArray[np.int64]) -> NDArray[np.float32]:
    """Probabilities (..., classes) summed over groups: (..., groups.max() + 1)."""
    member = np.eye(int(groups.max()) + 1, dtype=np.float32)[groups]
    return np.asarray(posteriors @ member, np.float32)
