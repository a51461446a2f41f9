"""Which voices the speech encoder is trained on, how often, and which it is never trained on.

`en-gb` is spelt `en` in libespeak-ng; a variant it does not know (`+zzz`) is silently ignored, so all are named here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from model.data.voices.festival import FESTIVAL_VOICES

__all__ = [
    "ESPEAK_CHILD_VARIANTS",
    "ESPEAK_DEEP_VARIANTS",
    "ESPEAK_LANGUAGES",
    "ESPEAK_VARIANTS",
    "FESTIVAL_TRAINING",
    "FLITE_PITCH_HZ",
    "HELD_OUT",
    "UTTERANCE_SHARES",
    "HeldOut",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """What only evaluation hears: a recorded speaker, and a language."""

    festival_voice: str = "ked_diphone"
    espeak_language: str = "nl"


HELD_OUT: Final = HeldOut()

UTTERANCE_SHARES: Final = {"espeak": 0.55, "flite": 0.25, "festival": 0.20}
"""Share of utterances, and of time: all three speak about as long on average."""

ESPEAK_LANGUAGES: Final = {
    "en": (0.40, "en en-us en-us en-gb-x-rp en-gb-scotland en-gb-x-gbclan en-gb-x-gbcwmd en-029 en-us-nyc".split()),
    "de": (0.07, ["de"]),
    "fr": (0.07, ["fr", "fr-be", "fr-ch"]),
    "es": (0.05, ["es", "es-419"]),
    "it": (0.04, ["it"]),
    "pt": (0.05, ["pt", "pt-br"]),
    "pl": (0.04, ["pl"]),
    "cs": (0.03, ["cs"]),
    "sv": (0.03, ["sv"]),
    "fi": (0.02, ["fi"]),
    "tr": (0.03, ["tr"]),
    "el": (0.02, ["el"]),
    "ru": (0.03, ["ru"]),
    "hi": (0.03, ["hi"]),
    "ja": (0.02, ["ja"]),
    "ar": (0.02, ["ar"]),
    "ca": (0.01, ["ca"]),
    "ro": (0.02, ["ro"]),
    "hu": (0.01, ["hu"]),
    "da": (0.01, ["da"]),
}
"""Share of espeak's utterances and espeak names of each language (ISO 639-1)."""

ESPEAK_VARIANTS: Final = (
    " +m1 +m2 +m3 +m4 +m5 +m6 +m7 +m8 +f1 +f2 +f3 +f4 +f5 +croak +klatt +klatt2 +klatt3 +klatt4 +Alex +Alicia +Andrea "
    "+Andy +Annie +Denis +Diogo +Gene +Henrique +Hugo +Jacky +Lee +Marco +Mario +Michael +Mike +adam +anika +antonio "
    "+aunty +belinda +benjamin +boris +caleb +david +ed +edward +grandma +grandpa +iven +john +kaukovalta +linda "
    "+marcelo +max +michel +miguel +norbert +pablo +paul +pedro +quincy +rob +robert +sandro +shelby +steph +travis "
    "+victor +zac"
).split(" ")
"""All but the whispers, which have no voicing, and the robots. The first is none."""
ESPEAK_CHILD_VARIANTS: Final = "+f1 +f2 +f3 +f4 +f5 +Alicia +Andrea +belinda +linda +steph".split()
ESPEAK_DEEP_VARIANTS: Final = "+m1 +m2 +m3 +m4 +m5 +m6 +m7 +m8 +Denis +boris +david +grandpa".split()

FLITE_PITCH_HZ: Final = {"kal16": (75.0, 220.0), "awb": (75.0, 220.0), "rms": (75.0, 220.0), "slt": (140.0, 330.0)}
"""Range of the mean fundamental of each voice in training."""

FESTIVAL_TRAINING: Final = tuple(name for name in FESTIVAL_VOICES if name != HELD_OUT.festival_voice)
