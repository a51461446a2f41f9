"""The 36 bits that the invisible mark carries, their check and their error correction.

24 bits say which instance made the picture, 12 bits the day since 2026-01-01 (UTC). CRC-16 (CCITT, 0x1021) guards
them; the convolutional code of NASA's deep-space standard (K = 7, rate 1/2, 171 and 133 octal) corrects errors,
decoded softly by Viterbi's algorithm (1967).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from model.errors import InputError

__all__ = ["CODE_BITS", "CRC_BITS", "DAY_BITS", "EPOCH", "INSTANCE_BITS", "MarkPayload", "decode_bits", "encode_bits"]

EPOCH = date(2026, 1, 1)
INSTANCE_BITS, DAY_BITS, CRC_BITS = 24, 12, 16
_DATA_BITS = INSTANCE_BITS + DAY_BITS + CRC_BITS
_MEMORY = 6
_STATES = 1 << _MEMORY
_GENERATORS = (0o171, 0o133)
CODE_BITS = 2 * (_DATA_BITS + _MEMORY)


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkPayload:
    """Which instance made a picture (0 .. 2**24 - 1), and on which day (2026-01-01 .. 2037-03-19)."""

    instance: int
    day: date

    def __post_init__(self) -> None:
        if not 0 <= self.instance < 1 << INSTANCE_BITS:
            raise InputError(f"instance id must be within 0..{(1 << INSTANCE_BITS) - 1}, got {self.instance}")
        if not 0 <= (self.day - EPOCH).days < 1 << DAY_BITS:
            raise InputError(f"the mark's day must be within {EPOCH} and 4095 days after it, got {self.day}")

    @classmethod
    def today(cls, instance: int) -> MarkPayload:
        """Of this instance, today (UTC)."""
        return cls(instance=instance, day=datetime.now(UTC).date())


def encode_bits(payload: MarkPayload) -> NDArray[np.int8]:
    """(CODE_BITS,) of +1 and -1."""
    word = payload.instance << DAY_BITS | (payload.day - EPOCH).days
    word = word << CRC_BITS | _crc16(word)
    register = 0
    out = []
    for i in range(_DATA_BITS + _MEMORY):
        bit = word >> (_DATA_BITS - 1 - i) & 1 if i < _DATA_BITS else 0
        register = (register >> 1) | bit << _MEMORY
        out += [1 - 2 * ((register & g).bit_count() & 1) for g in _GENERATORS]
    return np.array(out, np.int8)


def decode_bits(soft: NDArray[np.float64]) -> MarkPayload | None:
    """The payload of soft code bits (CODE_BITS,), sign as in `encode_bits`; None if the CRC disagrees."""
    word = 0
    for bit in _viterbi(soft.reshape(-1, 2))[:_DATA_BITS]:
        word = word << 1 | bit
    word, crc = word >> CRC_BITS, word & ((1 << CRC_BITS) - 1)
    if _crc16(word) != crc:
        return None
    return MarkPayload(instance=word >> DAY_BITS, day=EPOCH + timedelta(days=word & ((1 << DAY_BITS) - 1)))


def _viterbi(soft: NDArray[np.float64]) -> list[int]:
    """Most likely input bits of (steps, 2) soft code bits; the path begins and ends in state 0."""
    state = np.arange(_STATES)
    before = ((state << 1) & (_STATES - 1))[:, None] + np.arange(2)  # the two states that lead here
    register = before + ((state >> (_MEMORY - 1)) << _MEMORY)[:, None]
    signs = np.stack([1 - 2 * (np.bitwise_count(register & g) & 1).astype(int) for g in _GENERATORS], -1)
    score = np.full(_STATES, -np.inf)
    score[0] = 0.0
    choices = []
    for pair in soft:
        reached = score[before] + signs @ pair
        choice = reached.argmax(axis=1)
        choices.append(choice)
        score = reached[state, choice]
    bits, now = [], 0
    for choice in reversed(choices):
        bits.append(now >> (_MEMORY - 1))
        now = int(before[now, choice[now]])
    return bits[::-1]


def _crc16(word: int) -> int:
    crc = 0xFFFF
    for byte in word.to_bytes((INSTANCE_BITS + DAY_BITS + 7) // 8, "big"):
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ (0x1021 if crc & 0x8000 else 0)) & 0xFFFF
    return crc
