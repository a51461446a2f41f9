#!/usr/bin/env python3
"""Refuse files above 15 MB: weights are split by `model.checkpoint`, data does not belong here."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

LIMIT_BYTES = 15_500_000  # a 15 MB shard and its header


def main(argv: Sequence[str] | None = None) -> int:
    """Check the named files; returns 1 if any is too large."""
    too_large = [name for name in (argv or sys.argv[1:]) if os.path.getsize(name) > LIMIT_BYTES]
    for name in too_large:
        print(f"{name}: {os.path.getsize(name)} bytes, at most {LIMIT_BYTES} are allowed")
    return 1 if too_large else 0


if __name__ == "__main__":
    sys.exit(main())
