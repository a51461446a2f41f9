"""Slots give what the CPU's own pipeline gives: alone, in mixed batches, with sessions that join, leave, rewind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from model.errors import InputError
from model.pipeline import AvatarPipeline
from model.radiance.compositor import Background, Transparent
from model.radiance.serving import AvatarRenderer
from model.slots.pipeline import SlotPipeline
from model.state import Controls, HopOutput, ShownAvatar
from tests.support.made_speech import made_speech

HOP = 1280
CALM = Controls()
LIVELY = Controls(mood="smile", mood_strength=0.8, yaw_deg=12.0, ease_s=0.3, head_motion=1.0, gaze_rad=(0.1, -0.05))
STILL = Controls(idle=False, mood="angry", head_motion=0.0, background=Background(top=(10, 200, 30), bottom=(0, 0, 0)))


def hops(seconds: float, seed: int) -> np.ndarray:
    """(n, 1280)"""
    sound = made_speech(seconds, seed=seed)
    return sound[: len(sound) // HOP * HOP].reshape(-1, HOP)


def close(ours: HopOutput, wanted: HopOutput) -> None:
    """Motion and head to 1e-5; pictures in all but one byte of a thousand, and never more than one level off."""
    assert ours.first_frame == wanted.first_frame
    np.testing.assert_allclose(ours.motion, wanted.motion, rtol=0, atol=1e-5)
    assert wanted.head_deg is not None
    np.testing.assert_allclose(ours.head_deg, wanted.head_deg, rtol=0, atol=1e-5)
    assert ours.frames.shape == wanted.frames.shape
    if len(wanted.frames):
        off = np.abs(ours.frames.astype(int) - wanted.frames)
        assert off.max() <= 1 and (off > 0).mean() <= 1e-3


def compare(
    pipeline: AvatarPipeline, slots: SlotPipeline, *, hop_count: int, joins: Sequence[int], leaves: int
) -> None:
    """Four sessions with other seeds, sounds and controls; some join later, the second one leaves."""
    sounds = [hops(0.08 * hop_count + 0.1, seed) for seed in (2, 3, 4, 5)]
    asked = [CALM, LIVELY, STILL, CALM]
    theirs = [pipeline.new_state(seed, first_frame=7 * seed) for seed in range(4)]
    ours = [slots.new_state(seed, first_frame=7 * seed) for seed in range(4)]
    spoke = 0.0
    for hop in range(hop_count):
        here = [i for i in range(4) if joins[i] <= hop and not (i == 1 and hop >= leaves)]
        if hop == hop_count - 4:
            asked[0] = replace(LIVELY, mood="sad")
        batch = np.stack([sounds[i][hop - joins[i]] for i in here])
        controls = [asked[i] for i in here]
        wanted = pipeline.step(batch, controls, [theirs[i] for i in here])
        got = slots.step(batch, controls, [ours[i] for i in here])
        for ours_made, their_made in zip(got, wanted, strict=True):
            close(ours_made, their_made)
        spoke = max(spoke, *(state.drive.gate.value for state in theirs))
    assert spoke > 0.9, "the gate never opened: nothing of speech was compared"


def test_slots_equal_the_pipeline(pipeline: AvatarPipeline, slots: SlotPipeline) -> None:
    compare(pipeline, slots, hop_count=9, joins=(0, 0, 2, 4), leaves=6)


@pytest.mark.nightly
def test_slots_equal_the_pipeline_for_long(pipeline: AvatarPipeline, slots: SlotPipeline) -> None:
    """Ten seconds: nothing drifts apart."""
    compare(pipeline, slots, hop_count=125, joins=(0, 0, 5, 9), leaves=40)


def test_a_session_does_not_feel_who_shares_its_batch(slots: SlotPipeline) -> None:
    sounds = [hops(0.8, seed) for seed in (2, 3, 4)]
    alone, together = slots.new_state(1), [slots.new_state(seed) for seed in (1, 2, 3)]
    for hop in range(6):
        single = slots.step(sounds[0][hop][None], [CALM], [alone])[0]
        shared = slots.step(np.stack([s[hop] for s in sounds]), [CALM, LIVELY, STILL], together)[0]
        close(shared, single)


def test_a_rewound_session_says_the_same_again(slots: SlotPipeline) -> None:
    """A snapshot keeps the row that steps leave behind; what an interrupt shuts is the mouth."""
    sound = hops(1.6, 2)
    state = slots.new_state(0)
    for part in sound[:10]:
        slots.step(part[None], [CALM], [state])
    before = state.snapshot()
    again = before.snapshot()
    hushed = before.snapshot()
    first = [slots.step(part[None], [LIVELY], [before])[0] for part in sound[10:12]]
    second = [slots.step(part[None], [LIVELY], [again])[0] for part in sound[10:12]]
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.frames, b.frames)
    hushed.interrupt()
    for part in sound[10:12]:  # four frames: time to close, none to open again
        slots.step(part[None], [LIVELY], [hushed])
    layout = slots.steps[False].step.state
    assert float(layout.split(hushed.row[None])["gate_value"]) == 0.0
    assert float(layout.split(again.row[None])["gate_value"]) > 0.5


def test_an_interrupt_is_the_pipelines_own(pipeline: AvatarPipeline, slots: SlotPipeline) -> None:
    theirs, ours = pipeline.new_state(3), slots.new_state(3)
    for hop, part in enumerate(hops(0.8, 2)):
        if hop == 7:
            theirs.interrupt()
            ours.interrupt()
        close(slots.step(part[None], [CALM], [ours])[0], pipeline.step(part[None], [CALM], [theirs])[0])


def test_another_avatar_whose_torso_follows(pipeline: AvatarPipeline, slots: SlotPipeline) -> None:
    """Two avatars in one batch, and one session that changes its avatar."""
    shown = following(pipeline)
    slots.table.add(shown)
    theirs = [pipeline.new_state(0), pipeline.new_state(1, shown=shown), pipeline.new_state(2)]
    ours = [slots.new_state(0), slots.new_state(1, shown=shown), slots.new_state(2)]
    moved: list[np.ndarray] = []
    for hop, part in enumerate(hops(0.45, 2)):
        if hop == 3:
            theirs[2].shown = ours[2].shown = shown
        batch = np.stack([part] * 3)
        controls = [LIVELY, LIVELY, STILL]
        wanted = pipeline.step(batch, controls, theirs)
        got = slots.step(batch, controls, ours)
        for ours_made, their_made in zip(got, wanted, strict=True):
            np.testing.assert_allclose(ours_made.motion, their_made.motion, rtol=0, atol=1e-5)
            assert np.abs(ours_made.frames.astype(int) - their_made.frames).max(initial=0) <= 2  # layer within one
        moved += [wanted[1].frames, wanted[0].frames]
    assert np.abs(moved[-2].astype(int) - moved[-1]).max() > 20, "the torsos do not differ: nothing was compared"


def test_the_place_of_an_avatar_that_nobody_shows_is_free_again(pipeline: AvatarPipeline, slots: SlotPipeline) -> None:
    first, second = following(pipeline), following(pipeline)
    place = slots.table.add(first)
    with pytest.raises(InputError, match="2 avatars are in use already"):
        slots.table.add(second)
    del first
    assert slots.table.add(second) == place == slots.table.add(second)


@pytest.mark.nightly
def test_more_sessions_than_slots_are_stepped_in_parts(slots: SlotPipeline) -> None:
    count = 33
    states = [slots.new_state(seed) for seed in range(count)]
    part = hops(0.2, 2)
    slots.step(np.stack([part[0]] * count), [CALM] * count, states)
    outputs = slots.step(np.stack([part[1]] * count), [CALM] * count, states)
    assert len(outputs) == count
    single = slots.new_state(32)
    for hop in part[:2]:
        alone = slots.step(hop[None], [CALM], [single])[0]
    close(outputs[32], alone)


def test_what_slots_do_not_serve_is_refused(slots: SlotPipeline) -> None:
    state = slots.new_state(0)
    with pytest.raises(InputError, match="transparent"):
        slots.step(np.zeros((1, HOP), np.float32), [Controls(background=Transparent())], [state])
    with pytest.raises(InputError, match="NaN"):
        slots.step(np.full((1, HOP), np.nan, np.float32), [CALM], [state])
    assert state.next_frame == -2


def following(pipeline: AvatarPipeline) -> ShownAvatar:
    """The default avatar with a torso that follows its head."""
    renderer = pipeline.renderer
    rng = np.random.default_rng(0)
    arrays = dict(renderer.avatar.arrays)
    arrays["torso_mix"] = rng.normal(0.0, 0.1, (6, 6)).astype(np.float32)
    arrays["torso_basis"] = rng.normal(0.0, 0.3, (6, 2, 9, 9)).astype(np.float32)
    moved = renderer.like(replace(renderer.avatar, arrays=arrays))
    assert isinstance(moved, AvatarRenderer)
    shown = pipeline.shown
    return ShownAvatar(moved, shown.retarget, shown.rest_motion, shown.own_idle)
