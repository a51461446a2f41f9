"""The serving pipeline with the shipped models: packet positions, batches, causality, isolation, bad input."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from model.errors import InputError
from model.motion.space import load_motion_space
from model.pipeline import AvatarPipeline
from model.radiance.compositor import Transparent
from model.state import Controls, HopOutput


@pytest.fixture(scope="module")
def pipeline() -> AvatarPipeline:
    return AvatarPipeline.load(None, size=64)


def sound(hops: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    t = np.arange(hops * 1280) / 16_000
    wave = sum(np.sin(2 * np.pi * (110 + 10 * seed) * k * t) / k for k in range(1, 20))
    return (0.1 * wave * np.clip(np.sin(2 * np.pi * 3 * t + seed), 0, None) + rng.normal(0, 1e-3, len(t))).astype(
        np.float32
    )


def run(
    pipeline: AvatarPipeline, audio: np.ndarray, seed: int = 0, controls: Controls | None = None
) -> list[HopOutput]:
    state, asked = pipeline.new_state(seed), controls or Controls()
    return [pipeline.step(part[None], [asked], [state])[0] for part in audio.reshape(-1, 1280)]


def test_frames_carry_their_absolute_positions(pipeline: AvatarPipeline) -> None:
    outputs = run(pipeline, sound(4, 1))
    assert [len(o.frames) for o in outputs] == [0, 2, 2, 2]
    assert [o.first_frame for o in outputs[1:]] == [0, 2, 4]
    assert outputs[1].frames.shape == (2, 96, 64) and outputs[1].frames.dtype == np.uint8
    assert set(outputs[1].stage_ms) == {"mel", "encoder", "sampler", "decode", "render", "color"}
    assert all(ms > 0 for ms in outputs[1].stage_ms.values())


def test_a_session_does_not_feel_who_shares_its_batch(pipeline: AvatarPipeline) -> None:
    audio = [sound(8, seed) for seed in (1, 2, 3)]
    states = [pipeline.new_state(seed) for seed in (1, 2, 3)]
    asked = [Controls(), Controls(mood="smile"), Controls(mood="angry", mood_strength=0.5)]
    together: list[list[np.ndarray]] = [[], [], []]
    for hop in range(8):
        batch = np.stack([a[hop * 1280 : (hop + 1) * 1280] for a in audio])
        for row, output in enumerate(pipeline.step(batch, asked, states)):
            together[row].append(output.motion)
    for row, seed in enumerate((1, 2, 3)):
        alone = np.concatenate([o.motion for o in run(pipeline, audio[row], seed, asked[row])])
        difference = np.abs(np.concatenate(together[row]) - alone)
        assert difference.max() < 0.08, "bf16 rounds differently in batches, but not by this much (unit: deviations)"


def test_frames_come_one_by_one_and_everyones_first_before_anyones_second(pipeline: AvatarPipeline) -> None:
    audio = np.stack([sound(4, seed) for seed in (1, 2)]).reshape(2, 4, 1280).swapaxes(0, 1)
    asked = [Controls(mood="smile"), Controls(background=Transparent())]
    whole, parts = ([pipeline.new_state(seed) for seed in (1, 2)] for _ in range(2))
    for hop, batch in enumerate(audio):
        wanted = pipeline.step(batch, asked, whole)
        made = list(pipeline.step_in_parts(batch, asked, parts))
        order = [(row, last) for row, _, last in made]
        assert order == ([(0, True), (1, True)] if hop == 0 else [(0, False), (1, False), (0, True), (1, True)])
        for row, output in enumerate(wanted):
            own = [part for of, part, _ in made if of == row]
            np.testing.assert_array_equal(np.concatenate([part.frames for part in own]), output.frames)
            np.testing.assert_array_equal(np.concatenate([part.motion for part in own]), output.motion)
            assert [part.first_frame for part in own] == [output.first_frame + i for i in range(len(own))]
            assert (output.alpha is None) == (row == 0)
            costs = [sum(part.stage_ms.values()) for part in own]
            assert costs == sorted(costs), "what the hop has cost so far"


def test_later_sound_changes_no_earlier_frame(pipeline: AvatarPipeline) -> None:
    audio = sound(8, 1)
    changed = audio.copy()
    changed[5 * 1280 :] = 0.0
    before, after = run(pipeline, audio), run(pipeline, changed)
    for a, b in zip(before[:5], after[:5], strict=True):
        np.testing.assert_array_equal(a.frames, b.frames)
    assert any(not np.array_equal(a.motion, b.motion) for a, b in zip(before[5:], after[5:], strict=True))


def test_a_fresh_state_equals_another(pipeline: AvatarPipeline) -> None:
    audio = sound(4, 2)
    first = run(pipeline, audio, seed=9)
    again = run(pipeline, audio, seed=9)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a.frames, b.frames)


def test_a_session_begins_and_rests_in_the_rest_pose_of_its_face(pipeline: AvatarPipeline) -> None:
    outputs = run(pipeline, np.zeros(5 * 1280, np.float32))
    mouth = np.concatenate([o.motion for o in outputs])[:, :20]
    wanted = pipeline.retarget(pipeline.drive.rest_motion)[:20]
    assert np.abs(wanted).max() > 0.1
    np.testing.assert_allclose(mouth, np.broadcast_to(wanted, mouth.shape), atol=1e-4)


def test_a_mood_shows_at_rest_and_leaves_the_lips_as_they_are(pipeline: AvatarPipeline) -> None:
    space = load_motion_space()
    plain, smiling = (
        np.concatenate([o.motion for o in run(pipeline, sound(10, 1), controls=Controls(mood=mood))])
        for mood in ("neutral", "smile")
    )
    np.testing.assert_allclose(space.lip_opening(smiling), space.lip_opening(plain), atol=1e-4)
    assert (space.lip_width(smiling) - space.lip_width(plain))[-1] > 0.03


def test_the_head_moves_to_speech_as_much_as_is_asked(pipeline: AvatarPipeline) -> None:
    audio = sound(12, 1)
    still, half, full = (run(pipeline, audio, controls=Controls(head_motion=m)) for m in (0.0, 0.5, 1.0))
    for a, b in zip(still, full, strict=True):
        np.testing.assert_array_equal(a.motion, b.motion)  # the face does not know
    changed = [
        np.abs(np.concatenate([o.frames for o in made]).astype(int) - np.concatenate([o.frames for o in still]))
        for made in (half, full)
    ]
    assert 0 < changed[0].mean() < changed[1].mean()


def test_bad_audio_is_refused_with_its_shape(pipeline: AvatarPipeline) -> None:
    state = pipeline.new_state(0)
    with pytest.raises(InputError, match=r"\(1, 1279\)"):
        pipeline.step(np.zeros((1, 1279), np.float32), [Controls()], [state])
    with pytest.raises(InputError, match="NaN"):
        pipeline.step(np.full((1, 1280), np.nan, np.float32), [Controls()], [state])


def test_serving_imports_no_training_and_no_face_analysis() -> None:
    code = (
        "import sys, model.pipeline, model.capacity\n"
        "bad = [m for m in sys.modules if m.startswith(('model.training', 'model.evaluation', 'model.data',"
        " 'model.face', 'mediapipe', 'cv2', 'smplx'))]\n"
        "sys.exit(', '.join(bad) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
