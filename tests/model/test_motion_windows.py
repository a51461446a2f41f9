"""Training windows: what lies where, what is made imperfect, and the jumps that a student learns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from model.diffusion.unet import STYLES, UNetConfig
from model.errors import ConfigError, DataError
from model.motion.mirror import mirror_matrix
from model.motion.space import MOTION_SIZE, load_motion_space
from model.motion.vae import MotionVae, VaeConfig
from model.training.distill import GRID, JUMPS, DistillConfig, Pool
from model.training.motion_items import MotionItems, join_items
from model.training.motion_windows import AugmentConfig, Places, WindowSource, own_history, perturb

MODEL = UNetConfig(process="flow", channels=(16, 16, 16), condition_size=16, context_size=16, num_heads=2, styles=3)
PLAIN = AugmentConfig(mirrored=0.0, posed=0.0, group_shares={"filmed": 1.0})


def items(lengths: tuple[int, ...] = (20, 30), *, style: int = 0, seed: int = 0) -> MotionItems:
    """Frames whose features name their row (committed) and minus their row (edge)."""
    total = sum(lengths)
    rows = torch.arange(total, dtype=torch.float16)[:, None].expand(-1, 256).contiguous()
    generator = torch.Generator().manual_seed(seed)
    motion = torch.zeros(total, MOTION_SIZE)
    motion[:, :20] = torch.randn(total, 20, generator=generator)
    starts = np.cumsum((0, *lengths[:-1]))
    return MotionItems(
        committed=rows,
        edge=-rows,
        motion=motion,
        flow=torch.zeros(total, 78, 2, dtype=torch.float16),
        flow_confidence=torch.ones(total, 78, dtype=torch.float16),
        start=torch.from_numpy(starts.astype(np.int64)),
        frames=torch.tensor(lengths),
        phase=torch.arange(len(lengths)) % 2,
        style=torch.full((len(lengths),), style),
    )


def vae() -> MotionVae:
    torch.manual_seed(0)
    return MotionVae(VaeConfig()).eval().requires_grad_(False)


def source(augment: AugmentConfig = PLAIN, **groups: MotionItems) -> WindowSource:
    return WindowSource(groups or {"filmed": items()}, vae(), MODEL, augment)


def places(hop: int, *, item: int = 0, shift: int = 0) -> Places:
    one = torch.tensor
    return Places(one([item]), one([hop]), one([shift]), one([False]), torch.zeros(1, 3))


def test_a_window_is_what_serving_hears() -> None:
    batch = source().at(places(10, item=1))
    first = 20 + 10 - MODEL.committed_frames  # item 1 begins at row 20
    heard = batch.audio[0, :, 0]
    torch.testing.assert_close(heard[:10], torch.arange(first, first + 10).float())  # committed and hop
    torch.testing.assert_close(heard[10:12], -torch.arange(first + 10, first + 12).float())  # look-ahead
    assert not heard[12:].any() and batch.audio_mask[0].tolist() == [True] * 12 + [False] * 4
    assert batch.prefix_mask[0].tolist() == [1.0] * 8 + [0.0] * 8
    torch.testing.assert_close(batch.prefix[0, :8], batch.clean[0, :8])
    assert not batch.prefix[0, 8:].any()


def test_before_an_item_nothing_was_heard_and_its_first_frame_stands() -> None:
    batch = source().at(places(2))
    assert batch.audio_mask[0, :6].sum() == 0 and batch.audio_mask[0, 6:12].all()
    torch.testing.assert_close(batch.clean[0, :6], batch.clean[0, 6:7].expand(6, -1))
    assert batch.flow_confidence[0, :6].sum() == 0


def test_items_never_leak_into_each_other() -> None:
    made = items()
    changed = replace(made, motion=made.motion.clone())
    changed.motion[20:] += 5.0
    for hop in (0, 10, 19):
        a, b = source(PLAIN, filmed=made).at(places(hop)), source(PLAIN, filmed=changed).at(places(hop))
        torch.testing.assert_close(a.clean, b.clean)


def test_hops_begin_at_the_phase_at_which_the_item_was_heard() -> None:
    drawn = source().draw(400, torch.Generator().manual_seed(0))
    assert ((drawn.hop - drawn.item % 2) % MODEL.hop_frames == 0).all()
    assert drawn.hop.min() >= -MODEL.hop_frames and (drawn.hop <= torch.tensor([20, 30])[drawn.item]).all()


def test_groups_are_drawn_by_their_shares_whatever_their_size() -> None:
    groups = {"filmed": items((20,)), "noise": items((30, 300))}
    augment = replace(PLAIN, group_shares={"filmed": 0.75, "noise": 0.25})
    drawn = source(augment, **groups).draw(4000, torch.Generator().manual_seed(1))
    assert float((drawn.item == 0).float().mean()) == pytest.approx(0.75, abs=0.03)
    assert float((drawn.item == 2).float().mean()) == pytest.approx(0.25 * 300 / 330, abs=0.03)


def test_a_shift_moves_the_sound_and_not_the_motion() -> None:
    still, late = source().at(places(10)), source().at(places(10, shift=1))
    torch.testing.assert_close(late.clean, still.clean)
    torch.testing.assert_close(late.audio[0, :10, 0], still.audio[0, :10, 0] - 1)
    assert late.flow_confidence.sum() == 0


def test_own_history_is_what_the_model_makes_of_the_window_before() -> None:
    whole = source()
    batch, earlier = whole.at(places(16)), whole.at(places(8))
    seen: list[Tensor] = []

    def make(windows: object) -> Tensor:
        seen.append(windows.audio[0, :, 0].clone())  # type: ignore[attr-defined]
        return torch.arange(16.0)[None, :, None].expand(1, -1, 16)

    own = own_history(make, batch, earlier, 1.0, torch.Generator().manual_seed(0))
    torch.testing.assert_close(own.prefix[0, :8, 0], torch.arange(8.0, 16.0))
    assert not own.prefix[0, 8:].any()
    torch.testing.assert_close(seen[0][:16], torch.arange(16.0))  # all of it heard and committed by now
    torch.testing.assert_close(own.clean, batch.clean)


def test_perturbing_touches_past_and_sound_only() -> None:
    batch = source().at(places(10))
    sure = replace(PLAIN, prefix_dropout=1.0, feature_dropout=1.0)
    hidden = perturb(batch, sure, torch.Generator().manual_seed(0))
    assert not hidden.prefix.any() and not hidden.prefix_mask.any() and not hidden.audio.any()
    torch.testing.assert_close(hidden.clean, batch.clean)


def test_mirroring_keeps_opening_and_width() -> None:
    space = load_motion_space()
    motion = np.random.default_rng(0).normal(size=(200, MOTION_SIZE)).astype(np.float32)
    flipped = motion.copy()
    flipped[:, :20] = motion[:, :20] @ mirror_matrix(space)
    for signal in (space.lip_opening, space.lip_width):
        assert np.abs(signal(flipped) - signal(motion)).std() < 0.15 * signal(motion).std()
    np.testing.assert_allclose(flipped[:, 16:20], motion[:, [18, 19, 16, 17]])


def test_only_filmed_windows_are_mirrored_and_they_say_so() -> None:
    augment = replace(PLAIN, mirrored=1.0, group_shares={"filmed": 0.5, "spoken": 0.5})
    made = source(augment, filmed=items(), spoken=items(style=STYLES.index("co-articulated")))
    drawn = made.draw(50, torch.Generator().manual_seed(0))
    batch = made.at(drawn)
    assert drawn.mirrored.any() and (drawn.mirrored == (drawn.item < 2)).all()
    assert (batch.style[drawn.mirrored] == STYLES.index("mirrored")).all()
    assert (batch.style[~drawn.mirrored] == STYLES.index("co-articulated")).all()


def test_items_come_back_from_disk_and_a_foreign_file_is_named(tmp_path: object) -> None:
    from pathlib import Path

    folder = Path(str(tmp_path))
    joined = join_items([items((20,)), items((30,), seed=1)])
    joined.save(folder / "a.safetensors")
    again = MotionItems.load(folder / "a.safetensors")
    torch.testing.assert_close(again.motion, joined.motion)
    assert again.start.tolist() == [0, 20]
    (folder / "b.safetensors").write_bytes(b"not one")
    with pytest.raises(DataError, match=r"b\.safetensors is no cache"):
        MotionItems.load(folder / "b.safetensors")


def pool(path: Tensor, mean: Tensor) -> Pool:
    return Pool(source().at(places(10)), path, mean)


def test_jumps_of_a_pool_lead_along_the_teachers_path() -> None:
    generator = torch.Generator().manual_seed(0)
    path, mean = torch.randn(1, GRID + 1, 16, 16, generator=generator), torch.randn(1, 16, 16, generator=generator)
    one = torch.ones(1)
    for start, end in JUMPS:
        here, said = pool(path, mean).jump(*(torch.tensor([v]) for v in (0, start, end)), one)
        kept = end / start
        torch.testing.assert_close(here, path[:, start])
        torch.testing.assert_close(kept * here + (1 - kept) * said, path[:, end], atol=1e-5, rtol=1e-5)


def test_temperature_zero_of_a_pool_is_the_mean_and_a_half_lies_between() -> None:
    generator = torch.Generator().manual_seed(0)
    path, mean = torch.randn(1, GRID + 1, 16, 16, generator=generator), torch.randn(1, 16, 16, generator=generator)
    where = [torch.tensor([v]) for v in (0, 4, 0)]
    here, said = pool(path, mean).jump(*where, torch.zeros(1))
    assert not here.any()
    torch.testing.assert_close(said, mean)
    _, half = pool(path, mean).jump(*where, torch.full((1,), 0.5))
    torch.testing.assert_close(half, 0.5 * (mean + path[:, 0]))


def test_a_solver_that_misses_the_students_times_is_refused() -> None:
    with pytest.raises(ConfigError, match="multiple of 4, got 6"):
        DistillConfig(heun_steps=6)
