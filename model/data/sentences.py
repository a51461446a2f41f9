"""Texts for synthetic speech: sentences, commands, numbers, letters, names and word strings, written for this project.

GRID, the recorded part of the training, never says ER HH NG OY SH UH or ZH, so the English sentences are full of them.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np

from model.data.english_sentences import ENGLISH_SENTENCES
from model.data.word_lists import WORDS

__all__ = ["random_sentence"]

_GRID: Final = (
    "bin lay place set",
    "blue green red white",
    "at by in with",
    "a b c d e f g h i j k l m n o p q r s t u v x y z",
    "zero one two three four five six seven eight nine",
    "again now please soon",
)
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"
_NAMES: Final = (
    "Anna Ben Carla David Emma Felix Georgia Hugh Irene Joy Kirsty Leo Maya Nigel Oscar Paula Roy Shirley Thomas "
    "Ursula Victor Wendy Yusuf Zoe Joyce Sheila Floyd Hank Heather Bing Ingrid Burt Pearl Stirling Cooper Woody Asia "
    "Persia London Paris Shanghai Beijing Hong-Kong Illinois Detroit Birmingham Jersey Perth Washington Helsinki "
    "Tahiti Tunisia"
).split()
_NUMBERS: Final = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand first third thirteenth"
).split()
_RARE: Final = (
    "beige measure vision pleasure treasure usual leisure garage casual decision occasion genre rouge mirage seizure "
    "explosion version collision boy oil join point voice noise choice toy enjoy royal coin spoil avoid moist destroy "
    "oyster employ loyal annoy soil good book put would look foot full push could should pull wood hook sugar bush "
    "cushion butcher stood took bullet wolf bird word work turn girl world her first burn church nurse early search "
    "hurt shirt perfect journey learn purple hand happy house here help hello hope hill hot heavy behind ahead "
    "perhaps hurry humble anyhow rehearse sing long bring morning ring young thing hang strong single finger language "
    "singing angry belong wrong king ship shoe wish fish she wash sharp share action ocean shadow special push "
    "machine fashion mushroom shelf shine"
).split()


def random_sentence(language: str, rng: np.random.Generator) -> str:
    """A text of about 1 to 6 seconds in a language (ISO 639-1); a KeyError names one that `WORDS` lacks."""
    if language == "en":
        return _random_english(rng)
    return _word_string(_words(language), rng)


def _random_english(rng: np.random.Generator) -> str:
    kind = rng.random()
    if kind < 0.45:
        return str(rng.choice(ENGLISH_SENTENCES))
    if kind < 0.60:
        return " ".join(str(rng.choice(slot.split())) for slot in _GRID) + "."
    if kind < 0.66:
        return _word_string(_NUMBERS, rng)
    if kind < 0.70:
        return ", ".join(rng.choice(list(_LETTERS), int(rng.integers(3, 7)))).upper() + "."
    if kind < 0.75:
        return _word_string(_NAMES, rng)
    if kind < 0.90:
        return _word_string(_RARE, rng)
    return _word_string(_words("en"), rng)


@cache
def _words(language: str) -> list[str]:
    return WORDS[language].split()


def _word_string(words: list[str], rng: np.random.Generator) -> str:
    """3 to 8 random words, with a pause now and then."""
    count = int(rng.integers(3, 9))
    chosen = [str(w) for w in rng.choice(words, count)]
    if count > 4 and rng.random() < 0.4:
        chosen[count // 2] += ","
    return " ".join(chosen) + "."
