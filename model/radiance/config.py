"""Sizes of the radiance field and the scaling of what it is conditioned on; no torch."""

from __future__ import annotations

from dataclasses import dataclass

from model.errors import ConfigError

ROTATION_SCALE_RAD = 0.25
# Brings the motion space's brows, lids and gaze (standard deviations 0.2, 0.2, 0.2) near the mouth codes' unit.
MOTION_GAINS = (1.0,) * 16 + (5.0,) * 4 + (4.0,) * 2 + (5.0,) * 2 + (1.0,) * 8


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldConfig:
    """Sizes of the field; positions in canonical units."""

    resolution: int = 128
    channels: int = 16
    hidden: int = 64
    motion_size: int = 32
    bias_hidden: int = 64
    warp_bases: int = 24
    warp_shape: tuple[int, int, int] = (32, 40, 24)  # x, y, z
    warp_lo: tuple[float, float, float] = (-0.60, -0.98, -0.42)
    warp_hi: tuple[float, float, float] = (0.60, 0.42, 0.80)
    density_scale: float = 20.0
    step: float = 2.0 / 96.0

    def __post_init__(self) -> None:
        if self.resolution < 2 or self.channels < 1 or self.hidden < 1 or self.warp_bases < 1:
            raise ConfigError(f"field sizes must be positive, got {self}")
        if min(self.warp_shape) < 2 or not all(a < b for a, b in zip(self.warp_lo, self.warp_hi, strict=True)):
            raise ConfigError(f"warp box is empty: {self.warp_lo} .. {self.warp_hi}, {self.warp_shape}")

    @property
    def condition_size(self) -> int:
        """Motion, rotation vector, and the six products of its components."""
        return self.motion_size + 9
