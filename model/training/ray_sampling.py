"""Which pixels of which frames a training step looks at.

Frames are drawn by kind (acted mouths and blinks more often); within a frame the rays are shared between the mouth
box, the eyes, the head, the soft borders (hair edge, collar) and the whole picture.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from model.data.capture import ORBIT, CaptureFrames

KIND_WEIGHTS = {"acted": 4.0, "closed": 1.3, "wide": 2.0}
TORSO_SEEN = 0.05  # of a pixel
BLINK_WEIGHT = 2.0
LID_CODES = slice(20, 22)


@dataclass(frozen=True, slots=True, kw_only=True)
class RayShares:
    """Shares of a frame's rays; the rest falls anywhere."""

    mouth: float = 0.25
    eyes: float = 0.12
    head: float = 0.38
    border: float = 0.15


@dataclass(frozen=True)
class RayBatch:
    """R rays of F frames, sorted by frame. Colors premultiplied, 0..1."""

    frames: Tensor  # (F,) indices into the training frames
    counts: list[int]  # rays of each frame
    rows: Tensor  # (R,)
    columns: Tensor  # (R,)
    rgba: Tensor  # (R, 4)
    head: Tensor  # (R,)
    size_px: int
    has_torso: Tensor  # (F,) 0 where the torso layer does not apply: there `rgba` is the head alone
    sure: Tensor  # (R,) bool: false where a torso of which nothing is known may hide the head

    @property
    def frame_of_ray(self) -> Tensor:
        """(R,) which of the batch's frames each ray belongs to."""
        device = self.rows.device
        counts = torch.tensor(self.counts, device=device)
        return torch.arange(len(self.counts), device=device).repeat_interleave(counts, output_size=len(self.rows))

    def to(self, device: torch.device) -> RayBatch:
        """The same batch on another device."""
        names = ("frames", "rows", "columns", "rgba", "head", "has_torso", "sure")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})


class RaySampler:
    """Draws ray batches; every draw depends only on the generator."""

    def __init__(self, frames: CaptureFrames, shares: RayShares) -> None:
        self.frames = frames
        self.shares = shares
        self.rgba = torch.from_numpy(frames.rgba)
        self.head = torch.from_numpy(frames.head)
        self.near, self.border = _regions(self.rgba, self.head)
        self.weights = torch.from_numpy(_frame_weights(frames))
        self.has_torso = torch.tensor([kind != ORBIT for kind in frames.kind]).float()

    def draw(self, rays: int, frame_count: int, generator: torch.Generator) -> RayBatch:
        """About `rays` rays of `frame_count` frames."""
        chosen = torch.multinomial(self.weights, min(frame_count, len(self.weights)), generator=generator)
        per_frame = max(16, rays // len(chosen))
        pixels = [self._pixels(int(i), per_frame, generator) for i in chosen]
        return self.batch(chosen, pixels)

    def batch(self, chosen: Tensor, pixels: list[Tensor]) -> RayBatch:
        """The rays through flat pixel indices of each chosen frame."""
        flat, size = torch.cat(pixels), self.frames.size_px
        frame = chosen.repeat_interleave(torch.tensor([len(p) for p in pixels]))
        rows, columns = flat // size, flat % size
        rgba = self.rgba[frame, rows, columns].float() / 255
        head = self.head[frame, rows, columns].float() / 255
        known = self.has_torso[frame] > 0
        share = torch.minimum(head / rgba[:, 3].clamp(min=1e-3), torch.ones_like(head))
        return RayBatch(
            frames=chosen,
            counts=[len(p) for p in pixels],
            rows=rows,
            columns=columns,
            rgba=torch.where(known[:, None], rgba, rgba * share[:, None]),
            head=head,
            size_px=size,
            has_torso=self.has_torso[chosen],
            sure=known | (rgba[:, 3] - head < TORSO_SEEN),
        )

    def _pixels(self, frame: int, count: int, generator: torch.Generator) -> Tensor:
        shares, size = self.shares, self.frames.size_px
        parts = [_box_pixels(self.frames.mouth_box[frame], round(count * shares.mouth), size, generator)]
        eyes = round(count * shares.eyes / 2)
        parts.extend(_box_pixels(box, eyes, size, generator) for box in self.frames.eye_boxes[frame])
        for region, share in ((self.near, shares.head), (self.border, shares.border)):
            inside = region[frame].view(-1).nonzero()[:, 0]
            if len(inside):
                parts.append(inside[torch.randint(len(inside), (round(count * share),), generator=generator)])
        rest = max(0, count - sum(len(p) for p in parts))
        parts.append(torch.randint(size * size, (rest,), generator=generator))
        return torch.cat(parts)


def halve(frames: CaptureFrames) -> CaptureFrames:
    """The same frames at half the size (2 x 2 means)."""
    size = frames.size_px // 2
    count = len(frames)
    rgba = np.empty((count, size, size, 4), np.uint8)
    head = np.empty((count, size, size), np.uint8)
    for i in range(count):
        rgba[i] = np.rint(frames.rgba[i].reshape(size, 2, size, 2, 4).mean((1, 3), dtype=np.float32))
        head[i] = np.rint(frames.head[i].reshape(size, 2, size, 2).mean((1, 3), dtype=np.float32))
    return replace(
        frames,
        size_px=size,
        rgba=rgba,
        head=head,
        mouth_box=np.asarray(frames.mouth_box / 2, np.float32),
        eye_boxes=np.asarray(frames.eye_boxes / 2, np.float32),
        lens=None if frames.lens is None else np.asarray(frames.lens / 2, np.float32),
    )


def _box_pixels(box: NDArray[np.float32], count: int, size: int, generator: torch.Generator) -> Tensor:
    x0, y0, x1, y1 = (float(v) for v in box)
    spread = torch.rand(2, count, generator=generator)
    columns = (x0 + spread[0] * (x1 - x0)).long().clamp(0, size - 1)
    rows = (y0 + spread[1] * (y1 - y0)).long().clamp(0, size - 1)
    return rows * size + columns


def _frame_weights(frames: CaptureFrames) -> NDArray[np.float32]:
    weights = np.array([KIND_WEIGHTS.get(kind, 1.0) for kind in frames.kind], np.float32)
    if frames.motion.shape[1] >= LID_CODES.stop:
        weights[frames.motion[:, LID_CODES].max(1) > 0.3] *= BLINK_WEIGHT
    return weights


def _regions(rgba: Tensor, head: Tensor, chunk: int = 50) -> tuple[Tensor, Tensor]:
    """(F, S, S) bool: on or near the head; on a soft border of head or picture."""
    near = torch.empty(head.shape, dtype=torch.bool)
    border = torch.empty(head.shape, dtype=torch.bool)
    reach = 9 if head.shape[1] >= 128 else 3
    for start in range(0, len(head), chunk):
        part = slice(start, start + chunk)
        covered = (head[part, None] > 0).float()
        near[part] = functional.max_pool2d(covered, reach, 1, reach // 2)[:, 0] > 0
        soft = ((head[part] > 0) & (head[part] < 255)) | ((rgba[part, ..., 3] > 0) & (rgba[part, ..., 3] < 255))
        border[part] = functional.max_pool2d(soft[:, None].float(), 3, 1, 1)[:, 0] > 0
    return near, border
