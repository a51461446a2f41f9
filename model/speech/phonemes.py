"""The phoneme inventory that the speech encoder is trained on, and how other alphabets map into it.

Classes follow what can be heard and seen, across languages; names are ARPAbet's where it has one.
"""

from __future__ import annotations

from typing import Final

PHONEMES: Final = ("sil p b m f v th dh t d n s z sh zh ch jh k g ng l r w y hh").split() + (
    "iy ih eh ae aa ah ao uh uw er ax ey ay oy ow aw ue oe kh nas"
).split()
"""sil, consonants, vowels; ue, oe: front rounded; kh: back fricatives; nas: nasal vowels."""
INDEX: Final = {name: i for i, name in enumerate(PHONEMES)}
SILENCE_INDEX: Final = INDEX["sil"]
BILABIALS: Final = frozenset({"p", "b", "m"})
OPEN_VOWELS: Final = frozenset({"aa", "ae", "ay", "aw", "ah"})
VOWELS: Final = frozenset("iy ih eh ae aa ah ao uh uw er ax ey ay oy ow aw ue oe nas".split())
VOICED: Final = frozenset("b m v dh d n z zh jh g ng l r w y".split()) | VOWELS
"""Phonemes during which the larynx sounds."""


_GRID_LEXICON: Final = """
bin b ih n|lay l ey|place p l ey s|set s eh t|blue b l uw|green g r iy n|red r eh d|white w ay t|at ae t|by b ay
in ih n|with w ih dh|again ax g eh n|now n aw|please p l iy z|soon s uw n|zero z iy r ow|one w ah n|two t uw
three th r iy|four f ao|five f ay v|six s ih k s|seven s eh v ax n|eight ey t|nine n ay n
a ey|b b iy|c s iy|d d iy|e iy|f eh f|g jh iy|h ey ch|i ay|j jh ey|k k ey|l eh l|m eh m|n eh n|o ow|p p iy|q k y uw
r aa|s eh s|t t iy|u y uw|v v iy|x eh k s|y w ay|z z eh d
"""

GRID_LEXICON: Final = {
    entry.split()[0]: tuple(entry.split()[1:])
    for line in _GRID_LEXICON.strip().splitlines()
    for entry in line.split("|")
}
"""British English pronunciations of GRID's 51 words."""

_IPA: Final = {
    "p": "p", "b": "b", "m": "m", "f": "f", "v": "v", "θ": "th", "ð": "dh", "t": "t", "d": "d", "n": "n",
    "s": "s", "z": "z", "ʃ": "sh", "ʒ": "zh", "tʃ": "ch", "dʒ": "jh", "k": "k", "ɡ": "g", "g": "g", "ŋ": "ng",
    "l": "l", "ɹ": "r", "r": "r", "ɾ": "d", "w": "w", "j": "y", "h": "hh", "ʔ": "sil", "β": "b", "ɣ": "g",
    "ts": "s", "pf": "f", "ɲ": "n", "ʎ": "l", "ɫ": "l", "x": "kh", "ç": "kh", "ʁ": "kh", "ɥ": "ue", "ɬ": "l",
    "ʀ": "kh", "χ": "kh", "ɱ": "m", "ʋ": "v", "ɕ": "sh", "ʑ": "zh", "ɻ": "r", "ʂ": "sh", "ʐ": "zh",
    "i": "iy", "ɪ": "ih", "e": "eh", "ɛ": "eh", "æ": "ae", "a": "aa", "ɑ": "aa", "ɐ": "ax", "ʌ": "ah",
    "ɔ": "ao", "o": "ao", "ʊ": "uh", "u": "uw", "ɜ": "er", "ɚ": "er", "ɝ": "er", "ə": "ax", "ᵻ": "ih", "ɨ": "ih",
    "eɪ": "ey", "aɪ": "ay", "ɔɪ": "oy", "oʊ": "ow", "əʊ": "ow", "aʊ": "aw", "ɔø": "oy", "ɔʏ": "oy",
    "y": "ue", "ʏ": "ue", "ø": "oe", "œ": "oe", "ɯ": "uw", "ɒ": "ao",
    "ɑ̃": "nas", "ɛ̃": "nas", "ɔ̃": "nas", "œ̃": "nas",
    "ʉ": "uw", "ʍ": "w", "iə": "iy", "eə": "eh", "ʊə": "uh", "ɑɹ": "aa",
    "ɔɹ": "ao", "oɹ": "ao", "ɛɹ": "eh", "ɪɹ": "ih", "ʊɹ": "uh",
    "aɪə": "ay", "aɪɚ": "ay", "əl": "l", "n̩": "n", "ã": "nas",
    "tɕ": "ch", "dʑ": "jh", "tʂ": "ch", "dʐ": "jh", "dz": "z", "c": "t", "ɟ": "d", "q": "k", "ʈ": "t", "ɖ": "d",
    "ɳ": "n", "ɴ": "ng", "ɭ": "l", "ɽ": "d", "ɸ": "f", "ħ": "hh", "ʕ": "kh", "r̝": "zh", "r̝̊": "sh", "ɧ": "sh", "ʝ": "y",
    "ai": "ay", "au": "aw", "ei": "ey", "oi": "oy", "ou": "ow", "ɔi": "oy", "ɛɪ": "ey", "ʌʊ": "aw", "ɛʊ": "eh",
    "ä": "aa", "ε": "eh", "ɵ": "oe", "ũ": "nas", "õ": "nas", "ĩ": "nas", "ẽ": "nas",
}  # fmt: skip
_IPA_MARKS: Final = "ˈˌːˑʲʰ̩̪̃|_-.'ˤ̬˞ʷ;?ʔ"


def phoneme_from_ipa(symbol: str) -> str:
    """Our phoneme for an IPA symbol as espeak-ng writes it; "" when nothing sounds; KeyError when unknown."""
    if symbol in _IPA:
        return _IPA[symbol]
    nasal = "̃" in symbol
    plain = "".join(c for c in symbol if c not in _IPA_MARKS)
    if not plain or plain.isspace():
        return ""
    if nasal:
        return "nas"
    for length in range(len(plain), 0, -1):
        if plain[:length] in _IPA:
            return _IPA[plain[:length]]
    raise KeyError(symbol)
