"""The cube and the skull of a new person: neither the field's cube nor its warp grid reaches far above the forehead.

The cube ends where the starting avatar's hair ends, and the warp grid ends at the forehead: above it every displacement
is that of its last nodes, so no displacement makes a skull taller. Both follow from the heights of two outlines here.
The cube is lifted, by whole rows of the planes, until the filmed head's top lies in it; then the columns above the warp
grid are stretched, so that the starting head's outline comes to lie at the filmed one.
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
LEAST_ABOVE = 0.12  # canonical: columns where a head stands less above the warp grid are its flanks
STRETCH = (0.7, 1.8)  # of what stands above the warp grid: beyond it is no skull

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class SkullFit:
    """Heights of the new cube to heights of the starting avatar's, canonical units of each."""

    lift: float = 0.0  # of the cube
    knee: float = 1.0  # in the new cube: what stands above it is stretched
    columns: tuple[float, ...] = (0.0,)  # x, rising
    stretches: tuple[float, ...] = (1.0,)  # of each column; between them they are interpolated

    def old_points(self, new: NDArray[np.floating]) -> Array:
        """Where the starting avatar's cube has what stands at positions (..., 3) of the new one."""
        points = np.array(new, np.float64)
        points[..., 1] = self._old_height(points[..., 1], self._stretch(points[..., 0]))
        return points

    def new_points(self, old: NDArray[np.floating]) -> Array:
        """The inverse of `old_points`."""
        points = np.array(old, np.float64)
        low = points[..., 1] - self.lift
        above = np.maximum(low - self.knee, 0) * self._stretch(points[..., 0])
        points[..., 1] = np.minimum(low, self.knee) + above
        return points

    def space(self, old: CanonicalSpace) -> CanonicalSpace:
        """The lifted cube of a starting avatar's."""
        x, y, z = old.centre
        return replace(old, centre=(x, y + self.lift * old.scale, z))

    def planes(self, old: Tensor) -> Tensor:
        """Planes (3, R, R, C) of the new cube; below the knee they are rows of the old ones, untouched.

        Planes (x, y) follow each column; (z, y) has no columns and follows the middle one; (x, z) has no height.
        """
        axis = np.linspace(-1, 1, len(old[0]))
        made = old.clone()
        for plane, stretch in ((0, self._stretch(axis)), (1, self._stretch(np.zeros(len(axis))))):
            heights = self._old_height(axis[:, None], stretch[None])
            place = torch.from_numpy((heights + 1) * (len(axis) - 1) / 2).round(decimals=6).clamp(0, len(axis) - 1)
            below = place.floor().long().clamp(max=len(axis) - 2)
            share, column = (place - below).to(old.dtype)[..., None], torch.arange(len(axis))
            made[plane] = old[plane][below, column] * (1 - share) + old[plane][below + 1, column] * share
        return made

    def _stretch(self, x: NDArray[np.floating]) -> Array:
        return np.asarray(np.interp(x, self.columns, self.stretches))

    def _old_height(self, new: Array, stretch: Array) -> Array:
        return np.minimum(new, self.knee) + self.lift + np.maximum(new - self.knee, 0) / stretch


def fit_skull(columns: Array, new_tops: Array, old_tops: Array, config: FieldConfig) -> SkullFit:
    """By the tops of the filmed and of the starting head in columns x (rising) of the starting avatar's cube.

    A top of 0 is not known. Columns at a head's flanks count as those beside them do.
    """
    knee = config.warp_hi[1]
    known = (new_tops > 0) & (old_tops > 0)
    if not known.any():
        return SkullFit(knee=knee)
    row = 2 / (config.resolution - 1)
    lift = float(np.ceil(np.clip(new_tops[known].max() - HIGHEST, 0.0, MOST_LIFT) / row - 1e-9) * row)
    new, old = (tops - lift - knee for tops in (new_tops, old_tops))
    used = known & (new > LEAST_ABOVE) & (old > LEAST_ABOVE)
    if not used.any():
        return SkullFit(lift=lift, knee=knee)
    stretches = np.clip(new[used] / old[used], *STRETCH)
    return SkullFit(lift=lift, knee=knee, columns=tuple(columns[used].tolist()), stretches=tuple(stretches.tolist()))
