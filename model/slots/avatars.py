"""Avatars on a device, in tables that a step reads by index: a slot shows the avatar whose index it is given."""

from __future__ import annotations

import threading
import weakref
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernels.ray_march.prepared import Precision, PreparedField
from kernels.ray_march.shapes import FIELD_WORDS
from model.errors import InputError
from model.radiance.compositor import Backdrop, resize_area
from model.radiance.config import MOTION_GAINS, FieldConfig
from model.radiance.serving import field_arrays
from model.state import ShownAvatar

LAYERS = ("bias_in", "bias_mid", "bias_out", "warp_mix")
NETWORK = (
    *("layer1.bias", "layer2.bias", "warp_basis"),
    *(f"{name}.{part}" for name in LAYERS for part in ("weight", "bias")),
)
TORSO_NODES, TORSO_POSE = 9, 6
FEWEST_PICTURES = 64


class AvatarTable:
    """Up to `capacity` avatars of one field size, at one picture size.

    An avatar's place is free again when nothing refers to its `ShownAvatar` any more. Pictures behind heads are kept
    for the backgrounds in use, the least recently used one goes.
    """

    def __init__(
        self,
        first: ShownAvatar,
        device: torch.device,
        *,
        capacity: int,
        most_slots: int,
        precision: Precision | None = None,
    ) -> None:
        """With a `precision` the fields are prepared for Triton, with weights of that type."""
        self.device = device
        self.precision = precision
        self._fields: list[PreparedField | None] = [None] * capacity
        self._lock = threading.Lock()
        self.size_px = first.renderer.size_px
        self.tensors: dict[str, Tensor] = {}
        self.shown: list[weakref.ref[ShownAvatar] | None] = [None] * capacity
        self._like = _sizes(first)
        for name, array in avatar_arrays(first).items():
            empty = torch.zeros(capacity, *array.shape, dtype=torch.from_numpy(array).dtype, device=device)
            self.tensors[name] = empty
        self.tensors["field"] = torch.zeros(capacity, FIELD_WORDS, dtype=torch.int64, device=device)
        gains = MOTION_GAINS if self._like.motion_size == len(MOTION_GAINS) else (1.0,) * self._like.motion_size
        self.tensors["gains"] = torch.tensor(gains, device=device)
        pictures = (max(FEWEST_PICTURES, 2 * most_slots), self.size_px, self.size_px, 3)
        self.pictures = torch.zeros(pictures, dtype=torch.uint8, device=device)
        self._places: dict[tuple[int, Backdrop], int] = {}  # the least recently used first
        self.add(first)

    def add(self, shown: ShownAvatar) -> int:
        """Upload an avatar, if it is not here, and return its index. May be called by any thread.

        Raises:
            InputError: Its field or picture has another size than the first one's, or the table is full.
        """
        with self._lock:
            return self._add(shown)

    def _add(self, shown: ShownAvatar) -> int:
        for index, held in enumerate(self.shown):
            if held is not None and held() is shown:
                return index
        if _sizes(shown) != self._like or shown.renderer.size_px != self.size_px:
            raise InputError(f"avatar {shown.name} has another field size than the first: serve it with --device cpu")
        free = [index for index, held in enumerate(self.shown) if held is None or held() is None]
        if not free:
            raise InputError(f"{len(self.shown)} avatars are in use already: a step on a GPU takes no more")
        index = free[0]
        for name, array in avatar_arrays(shown).items():
            self.tensors[name][index].copy_(torch.from_numpy(array))
        if self.precision is not None:
            field = PreparedField(field_arrays(shown.renderer.avatar), self.device, precision=self.precision)
            self._fields[index] = field
            self.tensors["field"][index].copy_(field.row)
        self._forget_pictures(index)
        self.shown[index] = weakref.ref(shown)
        return index

    def picture(self, index: int, background: Backdrop | None) -> int:
        """Place in `pictures` of what is behind an avatar's head: still torso and background."""
        shown = self.at(index)
        backdrop = background or shown.renderer.background
        key = (index, backdrop)
        place = self._places.pop(key, None)
        if place is None:
            taken = set(self._places.values())
            place = next((i for i in range(len(self.pictures)) if i not in taken), None)
            if place is None:
                place = self._places.pop(next(iter(self._places)))  # never of this batch: there are more than slots
            self.pictures[place].copy_(torch.from_numpy(shown.renderer.behind(backdrop)))
        self._places[key] = place
        return place

    def at(self, index: int) -> ShownAvatar:
        """The avatar at an index, which is in use."""
        held = self.shown[index]
        shown = held() if held is not None else None
        if shown is None:
            raise InputError(f"no avatar in use has index {index}")
        return shown

    def any_field(self) -> PreparedField:
        """One of the prepared fields: all have one precision and device."""
        return next(field for field in self._fields if field is not None)

    def _forget_pictures(self, index: int) -> None:
        for key in [key for key in self._places if key[0] == index]:
            del self._places[key]


def torso_follows(shown: ShownAvatar) -> bool:
    """Whether the torso moves with the head, so that the picture behind the head is another in each frame."""
    return "torso_mix" in shown.renderer.avatar.arrays


def avatar_arrays(shown: ShownAvatar) -> dict[str, NDArray[np.generic]]:
    """One avatar's row of each table."""
    avatar, size_px = shown.renderer.avatar, shown.renderer.size_px
    config = avatar.config
    rows: dict[str, NDArray[np.generic]] = {name: _floats(avatar.arrays[name]) for name in NETWORK}
    neck, space = config.neck, config.space
    doubles = {
        "pivot_low": neck.pivot_low,
        "pivot_high": neck.pivot_high,
        "share_low": neck.share_low,
        "share_high": neck.share_high,
        "camera": config.camera.matrix(),
        "centre": space.centre,
        "scale": space.scale,
    }
    rows |= {name: np.array(value, np.float64) for name, value in doubles.items()}
    rows["lens"] = np.array(config.camera.intrinsics(size_px), np.float32)
    rows["retarget"] = _floats(shown.retarget.matrix)
    rows["rest"] = _floats(shown.rest_motion)
    return rows | _torso_arrays(shown)


def _torso_arrays(shown: ShownAvatar) -> dict[str, NDArray[np.generic]]:
    arrays, size_px = shown.renderer.avatar.arrays, shown.renderer.size_px
    if not torso_follows(shown):
        return {
            "torso": np.zeros((size_px, size_px, 4), np.uint8),
            "torso_mix": np.zeros((TORSO_POSE, TORSO_POSE), np.float32),
            "torso_basis": np.zeros((TORSO_POSE, 2, TORSO_NODES, TORSO_NODES), np.float32),
        }
    torso = resize_area(np.asarray(arrays["torso"], np.float32), size_px)
    return {
        "torso": np.clip(np.rint(torso), 0, 255).astype(np.uint8),
        "torso_mix": _floats(arrays["torso_mix"]),
        "torso_basis": _floats(arrays["torso_basis"]),
    }


def _sizes(shown: ShownAvatar) -> FieldConfig:
    """What all avatars of a table share."""
    c = shown.renderer.avatar.config.field_config
    return replace(c, density_scale=1.0, step=1.0, warp_lo=(0.0, 0.0, 0.0), warp_hi=(1.0, 1.0, 1.0))


def _floats(array: NDArray[np.generic]) -> NDArray[np.generic]:
    return np.ascontiguousarray(array, np.float32)
