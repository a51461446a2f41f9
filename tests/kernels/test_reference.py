"""The reference ray marcher against closed forms: what a kernel is compared with must itself be right."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kernels.ray_march import FieldArrays, FrameInputs
from kernels.ray_march.reference import plane_features, render_reference, warp_at
from kernels.ray_march.synthetic import look_at, random_field, random_frame


def constant_field(raw: list[float], **change: float) -> FieldArrays:
    """A full box whose MLP answers ``raw`` everywhere."""
    field = random_field(0, fill=1.0)
    return replace(field, w3=np.zeros_like(field.w3), b3=np.array(raw, np.float32), **change)


def centre_frame() -> FrameInputs:
    camera = look_at(yaw=0.0, pitch=0.0, distance=3.0)
    return replace(random_frame(0, 1, 1), cam_to_canonical=camera, cx=0.5, cy=0.5)


def test_homogeneous_box_absorbs_exponentially() -> None:
    """A ray through length 2 of constant density: alpha = 1 - exp(-2 sigma), colour constant."""
    field = constant_field([1.0, 0.0, 2.0, -2.0], density_scale=0.3, termination=0.0)
    rgba = render_reference(field, centre_frame()).rgba[0, 0]
    alpha = 1.0 - np.exp(-2.0 * 0.3 * np.log(2.0))
    np.testing.assert_allclose(rgba[3], alpha, rtol=1e-5)
    np.testing.assert_allclose(rgba[:3] / alpha, [0.5, 0.880797, 0.119203], rtol=1e-5)


def test_termination_stops_and_renormalises() -> None:
    image = render_reference(constant_field([20.0, 0.0, 0.0, 0.0]), centre_frame())
    assert image.samples == 1
    np.testing.assert_allclose(image.rgba[0, 0], [0.5, 0.5, 0.5, 1.0], rtol=1e-6)


def test_camera_axes() -> None:
    """Facing the face, image right is the subject's left (+x) and image up is +y."""
    field = replace(random_field(0), occupancy=np.zeros((4, 4, 4), np.bool_))
    field.occupancy[3, 3, :] = True
    field = replace(field, b3=np.array([50.0, 0, 0, 0], np.float32), w3=np.zeros_like(field.w3))
    frame = replace(
        random_frame(0, 20, 20), cam_to_canonical=look_at(yaw=0.0, pitch=0.0, distance=3.0), fx=25.0, fy=25.0
    )
    rows, columns = np.nonzero(render_reference(field, frame).rgba[..., 3])
    assert rows.max() < 10
    assert columns.min() >= 10


def test_planes_are_read_as_documented() -> None:
    """(col, row) = (x, y), (z, y), (x, z): planes that hold their own coordinates give them back."""
    side = 9
    axis = np.linspace(-1, 1, side)
    planes = np.zeros((3, side, side, 16), np.float16)
    planes[..., 0] = axis[None, None, :]  # column
    planes[..., 1] = axis[None, :, None]  # row
    field = replace(random_field(0), planes=planes)
    x, y, z = 0.3, -0.61, 0.77
    got = plane_features(field, np.array([[x, y, z]])).reshape(3, 16)[:, :2]
    np.testing.assert_allclose(got, [[x, y], [z, y], [x, z]], atol=1e-3)


def test_warp_is_trilinear_and_clamped() -> None:
    field, frame = random_field(0), random_frame(0, 1, 1)
    nodes = [np.linspace(lo, hi, n) for lo, hi, n in zip(field.warp_lo, field.warp_hi, (3, 4, 5), strict=True)]
    x, y, z = np.meshgrid(*nodes, indexing="ij")
    frame = replace(frame, warp=np.stack([x, 2 * y + x, x * 0 + z], axis=-1).astype(np.float32))
    p = np.array([[0.1, -0.3, 0.2], [5.0, -5.0, 0.0]], np.float32)
    inside = np.clip(p, field.warp_lo, field.warp_hi)
    expected = np.stack([inside[:, 0], 2 * inside[:, 1] + inside[:, 0], inside[:, 2]], axis=1)
    np.testing.assert_allclose(warp_at(field, frame, p), expected, atol=1e-6)
