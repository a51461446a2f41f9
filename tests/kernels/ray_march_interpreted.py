"""The Triton ray marcher equals the NumPy reference: on a GPU, or in Triton's interpreter on tiny pictures.

Run by test_ray_march_triton.py in a process of its own: triton is interpreted as a whole, or not at all.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernels.ray_march import FieldArrays, FrameInputs, RayMarcher
from kernels.ray_march.batch import MarchBatch, Pictures, pack_slots, render_batch, render_into, upload_slot
from kernels.ray_march.prepared import Precision, PreparedField
from kernels.ray_march.reference import ReferenceImage, render_reference
from kernels.ray_march.synthetic import head_field, head_frame, look_at, random_field, random_frame

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
FLOAT32_TOLERANCE = 1e-4
EDGE = 1e-4  # a transmittance this close to the threshold may end the ray one sample apart
MIN_PSNR_DB = {"fp32": 45.0, "fp16": 38.0, "bf16": 38.0}
COARSE = 2.0 / 12.0  # few steps: the interpreter takes some milliseconds for each operation of a tile


def render(field: FieldArrays, frame: FrameInputs, precision: Precision = "fp32") -> Pictures:
    slot = upload_slot(PreparedField(field, DEVICE, precision=precision), frame)
    return render_batch([slot], frame.height, frame.width, count_samples=True)


def check(field: FieldArrays, frame: FrameInputs) -> NDArray[np.float32]:
    """Colour, depth and the number of samples of every ray are the reference's, in float32."""
    reference = render_reference(field, frame)
    pictures = render(field, frame)
    decided = reference.termination_margin > EDGE
    rgba, depth = pictures.rgba[0].cpu().numpy(), pictures.depth[0].cpu().numpy()
    assert decided.mean() > 0.9 or decided.size < 100
    assert np.abs(rgba - reference.rgba)[decided].max(initial=0.0) < FLOAT32_TOLERANCE
    assert np.abs(depth - reference.depth)[decided].max(initial=0.0) < 4 * FLOAT32_TOLERANCE  # distances up to 4
    if decided.all():
        assert count(pictures) == reference.samples
    return rgba


def count(pictures: Pictures) -> int:
    assert pictures.samples is not None
    return int(pictures.samples.sum())


def psnr_db(pictures: Pictures, reference: ReferenceImage) -> float:
    error = pictures.rgba[0].cpu().numpy() - reference.rgba
    return float(-10.0 * np.log10(np.mean(error**2) + 1e-16))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 7), pytest.param(3, 9, marks=pytest.mark.nightly)])
def test_matches_reference_at_odd_sizes(height: int, width: int) -> None:
    rgba = check(random_field(1, step=COARSE), random_frame(2, height, width))
    assert height < 7 or rgba[..., 3].max() > 0.5


@pytest.mark.parametrize("precision", ["fp32", "fp16", pytest.param("bf16", marks=pytest.mark.nightly)])
def test_precisions_at_the_serving_step(precision: Precision) -> None:
    """Close to the reference, and, where no ray ends early, exactly its samples in every precision."""
    field, frame = head_field(plane_side=32, grid=32), head_frame(7)
    field.occupancy[:, :, :24] = False  # the face alone: fewer rounds
    thin = replace(field, termination=0.0, density_scale=2.0)
    reference = render_reference(thin, frame)
    pictures = render(thin, frame, precision)
    assert count(pictures) == reference.samples > 50
    assert psnr_db(pictures, reference) >= MIN_PSNR_DB[precision]
    assert psnr_db(pictures, render_reference(replace(thin, step=COARSE), frame)) < MIN_PSNR_DB[precision]


def test_mixed_avatars_in_one_batch_are_as_alone() -> None:
    """Other planes, voxels, warp grids, cameras and steps beside it change no bit of a session's picture."""
    fields = [random_field(3 + i, plane_side=9 + 4 * i, grid=5 + 3 * i, step=COARSE + 0.05 * i) for i in range(3)]
    frames = [random_frame(6 + i, 5, 6) for i in range(3)]
    frames[1] = replace(frames[1], warp=np.ascontiguousarray(frames[1].warp[:3, :, :4]))
    slots = [upload_slot(PreparedField(f, DEVICE), frame) for f, frame in zip(fields, frames, strict=True)]
    together = render_batch(slots, 5, 6)
    assert together.samples is None
    for i, slot in enumerate(slots):
        alone = render_batch([slot], 5, 6)
        assert torch.equal(together.rgba[i], alone.rgba[0])
        assert torch.equal(together.depth[i], alone.depth[0])
    assert len({float(together.rgba[i].sum()) for i in range(3)}) == 3


def poisoned(tensor: Tensor) -> Tensor:
    """A copy with NaN (of whole numbers: the lowest) right before and after it."""
    fill = float("nan") if tensor.is_floating_point() else 0
    room = torch.full((tensor.numel() + 128,), fill, dtype=tensor.dtype, device=tensor.device)
    inside = room[64:-64].view(tensor.shape)
    inside.copy_(tensor)
    return inside


def test_nothing_beyond_inputs_and_outputs_is_used_or_written() -> None:
    field, frame = random_field(9, step=COARSE), random_frame(10, 5, 11)
    prepared = PreparedField(field, DEVICE)
    batch = pack_slots([upload_slot(prepared, frame)])
    clean = render_batch([upload_slot(prepared, frame)], 5, 11)
    for word, name in enumerate(("planes", "distance", "weights", "constants")):
        setattr(prepared, name, poisoned(getattr(prepared, name)))
        prepared.row[word] = getattr(prepared, name).data_ptr()
    dirty = MarchBatch(
        prepared=(prepared,),
        fields=prepared.row[None],
        cameras=poisoned(batch.cameras),
        biases=poisoned(batch.biases),
        warps=poisoned(batch.warps),
        warp_table=batch.warp_table,
    )
    rgba, depth = (torch.full((3, 5, 11, *last), float("nan"), device=DEVICE) for last in ((4,), ()))
    render_into(dirty, Pictures(rgba=rgba[1:2], depth=depth[1:2], samples=None))
    assert torch.equal(rgba[1], clean.rgba[0])
    assert torch.equal(depth[1], clean.depth[0])
    assert rgba[::2].isnan().all() and depth[::2].isnan().all()


def test_nothing_occupied_is_transparent() -> None:
    rgba = check(random_field(11, fill=0.0), random_frame(12, 3, 2))
    assert not rgba.any()


def test_the_object_renders_and_owns_its_copy() -> None:
    field, frame = random_field(13, step=COARSE), random_frame(14, 4, 5)
    marcher = RayMarcher(field, backend="triton", device=str(DEVICE), precision="fp32")
    reference = render_reference(field, frame)
    field.planes[...] = np.nan
    np.testing.assert_allclose(marcher.render(frame), reference.rgba, atol=FLOAT32_TOLERANCE)
    assert (marcher.backend, marcher.instruction_set) == ("triton", "triton")
    assert marcher.render_stats is not None
    assert marcher.render_stats.samples == reference.samples


@pytest.mark.nightly
@pytest.mark.parametrize(("height", "width"), [(63, 63), (100, 17), (17, 33)])
def test_matches_reference_at_larger_sizes(height: int, width: int) -> None:
    check(random_field(15, step=COARSE), random_frame(16, height, width))


@pytest.mark.nightly
@pytest.mark.parametrize("grid", [1, 3, 12, 64])
@pytest.mark.parametrize("fill", [0.02, 1.0])
def test_matches_reference_for_any_grid(grid: int, fill: float) -> None:
    field = random_field(17, grid=grid, fill=max(fill, 1.5 / grid**3), step=2.0 / 31.0)
    check(field, random_frame(18, 9, 14))


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(6))
def test_matches_reference_anywhere(seed: int) -> None:
    rng = np.random.default_rng(seed)
    field = random_field(
        seed,
        grid=int(rng.integers(1, 20)),
        fill=float(rng.uniform()),
        step=float(rng.choice([2 / 96, 2 / 31, 0.4])),
        termination=float(rng.choice([0.0, 0.05, 0.5])),
    )
    check(field, random_frame(seed + 1, *rng.integers(1, 12, 2).tolist(), distance=float(rng.uniform(0.0, 4.0))))


@pytest.mark.nightly
def test_sparse_voxels_far_apart_are_all_found() -> None:
    """Long skips must not step over a lone block of 3^3 voxels: one in every corner and one in the middle."""
    field = random_field(19, grid=128, fill=0.0, density_bias=4.0)
    for corner in np.ndindex(2, 2, 2):
        x, y, z = 125 * np.array(corner)
        field.occupancy[x : x + 3, y : y + 3, z : z + 3] = True
    field.occupancy[60:63, 63:66, 65:68] = True
    rgba = check(field, replace(random_frame(23, 40, 41), fx=37.0, fy=37.0))
    assert (rgba[..., 3] > 0.0).sum() > 3


@pytest.mark.nightly
def test_axis_parallel_rays() -> None:
    """The centre ray has two direction components of exactly zero."""
    frame = replace(random_frame(21, 9, 9), cam_to_canonical=look_at(yaw=0.0, pitch=0.0, distance=3.0), cx=4.5, cy=4.5)
    check(random_field(22), frame)


@pytest.mark.nightly
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_head_at_serving_steps(precision: Precision) -> None:
    field, frame = head_field(), head_frame(32)
    assert psnr_db(render(field, frame, precision), render_reference(field, frame)) >= MIN_PSNR_DB[precision]
