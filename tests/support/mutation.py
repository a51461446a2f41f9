"""Mutates valid inputs, for fuzzing: flips, cuts, repeats, splices, and the numbers that programs trip over."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence

__all__ = ["mutated"]

_TOKENS = (
    *(
        b"NaN",
        b"Infinity",
        b"-1",
        b"1e999",
        b"null",
        b"[]",
        b"{}",
        b"\x00",
        b"\r\n",
        b"\xff\xff\xff\xff",
        b'"',
        b"\\ud800",
        b"[" * 3000,
        b"1" * 4400,
        b"%s" * 4,
    ),
    *(struct.pack("<I", value) for value in (0, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)),
    *(struct.pack("<Q", value) for value in (1 << 40, (1 << 64) - 1)),
    b"A" * 5000,
)


def mutated(seeds: Sequence[bytes], rng: random.Random) -> bytes:
    """One of the seeds after one to six changes; at most 256 kB."""
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(7):
            case 0 if data:
                data[at % len(data)] ^= 1 << rng.randrange(8)
            case 1:
                data[at:at] = rng.choice(_TOKENS)
            case 2:
                del data[at : at + rng.choice((1, 4, 64, 4096))]
            case 3:
                data[at:at] = data[max(0, at - rng.randrange(1, 200)) : at]
            case 4:
                other = rng.choice(seeds)
                data[at:] = other[rng.randrange(len(other) + 1) :]
            case 5 if data:
                data[at % len(data)] = rng.randrange(256)
            case _:
                del data[at:]
        del data[1 << 18 :]
    return bytes(data)
