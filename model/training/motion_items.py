"""What the motion diffusion trains on, laid end to end: features as serving commits them, beside motion and flow.

An item is one hearing of one clip: `frames` rows from `start` on. For every frame two feature vectors are kept:
`committed` (heard with look-ahead) and `edge` (as seen while the frame itself was still look-ahead).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.errors import DataError


@dataclass
class MotionItems:
    """I items over F frames. `phase`: hops start at frames that leave this rest."""

    committed: Tensor  # (F, 256) float16
    edge: Tensor  # (F, 256) float16
    motion: Tensor  # (F, 32) float32
    flow: Tensor  # (F, 78, 2) float16, inter-ocular units from the frame before
    flow_confidence: Tensor  # (F, 78) float16, 0 where there is no flow
    start: Tensor  # (I,) int64
    frames: Tensor  # (I,)
    phase: Tensor  # (I,)
    style: Tensor  # (I,) index into model.diffusion.unet.STYLES

    def __len__(self) -> int:
        return len(self.start)

    def save(self, path: Path) -> None:
        """Write a cache (safetensors)."""
        partial = path.with_name(f".{path.name}.part")
        save_file({f.name: getattr(self, f.name).contiguous() for f in fields(self)}, partial)
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> MotionItems:
        """Read a cache.

        Raises:
            DataError: It is damaged or foreign.
        """
        try:
            return cls(**load_file(path))
        except (OSError, TypeError, SafetensorError) as error:
            raise DataError(f"{path} is no cache of motion items ({error!r}): delete it, it is made anew") from error


def join_items(groups: Sequence[MotionItems]) -> MotionItems:
    """All items of several groups.

    Raises:
        DataError: There is none.
    """
    if not groups:
        raise DataError("no motion items to train on")
    parts: dict[str, list[Tensor]] = {f.name: [] for f in fields(MotionItems)}
    rows = 0
    for group in groups:
        for name, part in parts.items():
            value = getattr(group, name)
            part.append(value + rows if name == "start" else value)
        rows += len(group.motion)
    return MotionItems(**{name: torch.cat(part) for name, part in parts.items()})
