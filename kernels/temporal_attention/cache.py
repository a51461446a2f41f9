"""Keys and values of frames that were committed before the current window: a ring for each session of a batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.checks import KernelInputError
from kernels.temporal_attention.inputs import check_tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameCache:
    """Frame f of a session lies in slot f % W, if it is one of the last W committed. Keys are not rotated.

    Slots that were never written are never read. The tensors are changed in place (a captured CUDA graph keeps its
    addresses); sessions advance on their own.
    """

    keys: Tensor  # (B, H, W, D)
    values: Tensor  # (B, H, W, D)
    committed: Tensor  # (B,) int64: frames ever committed, the stream position of the next

    @staticmethod
    def empty(
        sessions: int, heads: int, frames: int, channels: int, *, dtype: torch.dtype, device: torch.device | str = "cpu"
    ) -> FrameCache:
        """Room for the last `frames` frames of each session, none committed."""
        shape = (sessions, heads, frames, channels)
        return FrameCache(
            keys=torch.zeros(shape, dtype=dtype, device=device),
            values=torch.zeros(shape, dtype=dtype, device=device),
            committed=torch.zeros(sessions, dtype=torch.int64, device=device),
        )

    def commit(self, key: Tensor, value: Tensor, frames: int) -> None:
        """Append the first `frames` frames of a window's keys and values (B, H, T, D).

        Raises:
            KernelInputError: More frames than the window or the ring holds, or another shape, dtype or device.
        """
        sessions, heads, room, channels = self.keys.shape
        check_tensor("key", key, (sessions, heads, None, channels), self.keys)
        check_tensor("value", value, key.shape, self.keys)
        if not 0 <= frames <= min(room, key.shape[2]):
            raise KernelInputError(f"frames must be in [0, {min(room, key.shape[2])}], got {frames}")
        steps = torch.arange(frames, device=self.committed.device)
        slots = ((self.committed[:, None] + steps) % room)[:, None, :, None].expand(-1, heads, -1, channels)
        self.keys.scatter_(2, slots, key[:, :, :frames])
        self.values.scatter_(2, slots, value[:, :, :frames])
        self.committed.add_(frames)

    def reset(self, session: int) -> None:
        """Forget one session's frames."""
        self.committed[session] = 0

    def relative_positions(self) -> Tensor:
        """(B, W) position of each slot's frame, less that of the next frame: -1 is the latest; below -W none."""
        room = self.keys.shape[2]
        latest = self.committed[:, None] - 1
        slots = torch.arange(room, device=self.committed.device)
        frame = latest - (latest - slots) % room
        return torch.where(frame >= 0, frame - self.committed[:, None], torch.full_like(frame, -room - 1))


def check_cache(cache: FrameCache, key: Tensor) -> None:
    """Check a cache against a window's keys.

    Raises:
        KernelInputError: Shapes, dtypes, devices or layout disagree.
    """
    sessions, heads, _, channels = key.shape
    check_tensor("cache.keys", cache.keys, (sessions, heads, None, channels), key)
    check_tensor("cache.values", cache.values, cache.keys.shape, key)
    check_tensor("cache.committed", cache.committed, (sessions,), key, dtype=False)
    if cache.committed.dtype != torch.int64:
        raise KernelInputError(f"cache.committed must be torch.int64, got {cache.committed.dtype}")
    for name, tensor in (("keys", cache.keys), ("values", cache.values), ("committed", cache.committed)):
        if not tensor.is_contiguous():
            raise KernelInputError(f"cache.{name} must be contiguous, got strides {tensor.stride()}")
