"""Slots of pictures to composite, their tensors in the middle of memory that holds NaN."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SIZES = ((1, 1, 1), (2, 7, 10), (1, 6, 63), (3, 2, 2), (2, 21, 9))
"""Slots, height and width; odd ones among them, and more cells than a block has."""
GUARD = 64


@dataclass(frozen=True)
class Slots:
    """Arguments of `composite_i420_slots`."""

    rgba: Tensor
    underlay: Tensor
    which: Tensor | None
    guarded: Tensor  # the memory that `rgba` is in the middle of


def make_slots(slots: int, height: int, width: int, *, shared: bool, seed: int = 0) -> Slots:
    """Random pictures whose colors also leave 0..1; `shared`: slots choose among three underlays by index."""
    draw = torch.Generator().manual_seed(seed + 1000 * slots + 31 * height + width)
    count = slots * height * width * 4
    guarded = torch.full((count + 2 * GUARD,), torch.nan)
    rgba = guarded[GUARD : GUARD + count].view(slots, height, width, 4)
    rgba.copy_(torch.rand(rgba.shape, generator=draw) * 1.2 - 0.1)
    rgba[..., :3] *= rgba[..., 3:]
    pictures = 3 if shared else slots
    underlay = torch.randint(0, 256, (pictures, height, width, 3), generator=draw, dtype=torch.uint8)
    which = torch.randint(0, pictures, (slots,), generator=draw) if shared else None
    return Slots(rgba, underlay, which, guarded)


def guards_hold(made: Slots) -> bool:
    """Whether nothing was written around `rgba`."""
    return bool(torch.isnan(made.guarded[:GUARD]).all() and torch.isnan(made.guarded[-GUARD:]).all())
