"""The cube and the skull of a new person: neither the field's cube nor its warp grid reaches far above the forehead.

The cube ends where the starting avatar's hair ends, and the warp grid ends at the forehead: above it every displacement
is that of its last nodes, so no displacement makes a skull taller. Both follow from two heights here. The cube is
lifted, by whole rows of the planes, until the filmed head's top lies in it; then the rows above the warp grid are
stretched, so that the starting head's top comes to lie at the filmed one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.radiance.camera import CanonicalSpace
from model.radiance.config import FieldConfig

HIGHEST = 0.94  # canonical: where the filmed head's top may lie in the cube; the rest is for single hairs
MOST_LIFT = 0.3  # canonical: the neck loses as much at the cube's lower end
STRETCH = (0.7, 1.5)  # of what stands above the warp grid: beyond it is no skull


@dataclass(frozen=True, slots=True, kw_only=True)
class SkullFit:
    """Heights of the new cube to heights of the starting avatar's, canonical units of each; rising."""

    lift: float = 0.0  # of the cube
    knee: float = 1.0  # in the new cube: above it rows are stretched
    stretch: float = 1.0

    def old_height(self, new: NDArray[np.floating]) -> NDArray[np.float64]:
        """Where the starting avatar's cube has what stands at heights of the new one."""
        new = np.asarray(new, np.float64)
        return np.asarray(np.minimum(new, self.knee) + self.lift + np.maximum(new - self.knee, 0) / self.stretch)

    def new_height(self, old: NDArray[np.floating]) -> NDArray[np.float64]:
        """The inverse of `old_height`."""
        low = np.asarray(old, np.float64) - self.lift
        return np.asarray(np.minimum(low, self.knee) + np.maximum(low - self.knee, 0) * self.stretch)

    def old_points(self, new: NDArray[np.floating]) -> NDArray[np.float64]:
        """The same of positions (..., 3)."""
        points = np.array(new, np.float64)
        points[..., 1] = self.old_height(points[..., 1])
        return points

    def new_points(self, old: NDArray[np.floating]) -> NDArray[np.float64]:
        """The inverse of `old_points`."""
        points = np.array(old, np.float64)
        points[..., 1] = self.new_height(points[..., 1])
        return points

    def space(self, old: CanonicalSpace) -> CanonicalSpace:
        """The lifted cube of a starting avatar's."""
        x, y, z = old.centre
        return replace(old, centre=(x, y + self.lift * old.scale, z))

    def planes(self, old: Tensor) -> Tensor:
        """Planes (3, R, R, C) of the new cube; below the knee they are rows of the old ones, untouched."""
        rows = len(old[0])
        places = (self.old_height(np.linspace(-1, 1, rows)) + 1) * (rows - 1) / 2
        place = torch.from_numpy(places).round(decimals=6).clamp(0, rows - 1)
        below = place.floor().long().clamp(max=rows - 2)
        share = (place - below).to(old.dtype)[:, None, None]
        made = old.clone()
        for plane in (0, 1):  # (x, y) and (z, y); the third has no height
            made[plane] = old[plane][below] * (1 - share) + old[plane][below + 1] * share
        return made


def fit_skull(new_top: float, old_top: float, config: FieldConfig) -> SkullFit:
    """By the tops of the filmed and of the starting head, canonical heights of the starting avatar's cube.

    0 stands for a top that is not known: then nothing is changed.
    """
    knee = config.warp_hi[1]
    if new_top <= 0 or old_top <= 0:
        return SkullFit(knee=knee)
    row = 2 / (config.resolution - 1)
    lift = float(np.ceil(min(max(new_top - HIGHEST, 0.0), MOST_LIFT) / row) * row)
    stretch = (new_top - lift - knee) / max(old_top - lift - knee, 1e-3)
    return SkullFit(lift=lift, knee=knee, stretch=float(np.clip(stretch, *STRETCH)))
