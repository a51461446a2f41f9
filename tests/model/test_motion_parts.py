"""Motion space, VAE, idle motion, gate and retarget."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from model.checkpoint import save_checkpoint
from model.errors import ModelError
from model.motion.arkit import ARKIT_NAMES, arkit_from_ict
from model.motion.idle import IdleMotion
from model.motion.retarget import Retarget, RetargetConfig, fit_retarget
from model.motion.space import MotionSpaceError, check_space_hash, load_motion_space
from model.motion.vae import MotionVae, VaeConfig
from model.motion.voice_gate import GateConfig, GateState, open_gate

SPACE = load_motion_space()
FROZEN_HASH = "575930894659d5fc"


def test_the_frozen_space_has_not_changed() -> None:
    assert SPACE.hash == FROZEN_HASH


def test_a_space_mismatch_is_refused_with_the_remedy() -> None:
    with pytest.raises(MotionSpaceError, match=r"avatar x was made for motion space 00ff.*nerf-lipsync create"):
        check_space_hash("00ff", SPACE, "avatar x", "nerf-lipsync create")


def test_encoder_inverts_basis() -> None:
    codes = np.random.default_rng(0).normal(size=(5, 16)).astype(np.float32)
    np.testing.assert_allclose(codes @ SPACE.basis @ SPACE.encoder, codes, atol=1e-4)


def test_lip_opening_is_that_of_the_landmarks() -> None:
    motion = np.zeros((3, 32), np.float32)
    motion[:, :16] = np.random.default_rng(1).normal(size=(3, 16))
    points = SPACE.mouth_displacement(motion)
    from model.motion.face_points import MOUTH

    gap = points[:, MOUTH.index(13), 1] - points[:, MOUTH.index(14), 1]
    np.testing.assert_allclose(SPACE.lip_opening(motion), gap, atol=1e-5)


def test_wrong_shape_names_it() -> None:
    with pytest.raises(MotionSpaceError, match=r"\(2, 31\)"):
        SPACE.lip_opening(np.zeros((2, 31), np.float32))


def test_arkit_export_opens_the_jaw_and_stays_in_range() -> None:
    assert len(SPACE.arkit_names) == 52 and SPACE.arkit_names == ARKIT_NAMES
    row = SPACE.arkit_matrix[ARKIT_NAMES.index("jawOpen")]
    opened = np.zeros(32, np.float32)
    opened[:20] = row[:20] / np.linalg.norm(row[:20]) * 3
    closed = SPACE.to_arkit(np.zeros(32, np.float32))
    assert SPACE.to_arkit(opened)[ARKIT_NAMES.index("jawOpen")] > 0.2 > closed[ARKIT_NAMES.index("jawOpen")]
    wild = SPACE.to_arkit(np.full(32, 50.0, np.float32))
    assert wild.min() >= 0.0 and wild.max() <= 1.0


def test_ict_sides_map_to_arkit_sides() -> None:
    names = ("mouthSmile_L", "mouthSmile_R", "jawLeft", "browInnerUp_L", "browInnerUp_R", "cheekPuff_L", "cheekPuff_R")
    out = arkit_from_ict(np.array([[0.1, 0.2, 0.3, 0.4, 0.6, 0.0, 0.0]], np.float32), names)[0]
    got = {n: float(out[ARKIT_NAMES.index(n)]) for n in ("mouthSmileLeft", "mouthSmileRight", "jawLeft", "browInnerUp")}
    assert got == pytest.approx({"mouthSmileLeft": 0.1, "mouthSmileRight": 0.2, "jawLeft": 0.3, "browInnerUp": 0.5})


def test_vae_is_causal_and_streams() -> None:
    torch.manual_seed(0)
    vae = MotionVae(VaeConfig()).eval()
    latents = torch.randn(1, 20, 16)
    whole = vae.decode(latents)
    changed = latents.clone()
    changed[:, 12:] = 9.0
    torch.testing.assert_close(vae.decode(changed)[:, :12], whole[:, :12])
    for end in range(10, 21, 2):  # the last two of ten frames, as serving decodes them
        torch.testing.assert_close(vae.decode(latents[:, end - 10 : end])[:, -2:], whole[:, end - 2 : end])


def test_blinks_come_at_human_rates_and_depend_on_seed_and_frame_only() -> None:
    minutes = 10
    for seed in (0, 1, 2**40):
        idle = IdleMotion(seed)
        lids = np.array([idle.lid_closure(f) for f in range(minutes * 1500)])
        blinks = int(((lids[1:] > 0.5) & (lids[:-1] <= 0.5)).sum())
        assert 10 <= blinks / minutes <= 25
        np.testing.assert_array_equal(IdleMotion(seed).motion(777), idle.motion(777))
    assert np.abs(IdleMotion(0).head_deg(500) - IdleMotion(0).head_deg(501)).max() < 0.2


def test_gate_closes_in_silence_only_and_opens_with_look_ahead() -> None:
    silent, loud = np.zeros((4, 256), np.float32), np.zeros((4, 256), np.float32)
    silent[:, 0] = 1.0
    state, config = GateState(), GateConfig()
    assert open_gate(silent, 1.0, state, 2, config).max() == 0.0
    assert open_gate(loud, 0.1, state, 2, config).max() == 0.0  # whatever the encoder takes it for, without trust
    ahead = silent.copy()
    ahead[2:, 0] = 0.0  # speech in the look-ahead frames
    assert open_gate(ahead, 1.0, state, 2, config)[0] > 0.0
    for _ in range(3):
        open_gate(loud, 1.0, state, 2, config)
    assert state.value == 1.0
    assert open_gate(silent, 1.0, state, 2, config).min() == 1.0  # a closure inside a word
    for _ in range(config.hold_frames + config.close_frames):
        closed = open_gate(silent, 1.0, state, 2, config)
    assert closed.max() == 0.0


def test_gate_trusts_phonemes_for_some_frames_until_a_voice_confirms_them() -> None:
    loud, config = np.zeros((4, 256), np.float32), GateConfig()
    state = config.new_state()
    first = open_gate(loud, 0.0, state, 2, config)  # a sentence begins before voice activity notices
    assert 0.0 < first.max() <= config.trusted
    for _ in range(int(config.trust_frames) + config.close_frames):
        shut = open_gate(loud, 0.0, state, 2, config)
    assert shut.max() == 0.0  # music that the encoder takes for speech
    for _ in range(200):
        assert open_gate(loud, 0.0, state, 2, config).max() == 0.0
    for _ in range(3):
        heard = open_gate(loud, 1.0, state, 2, config)
    assert heard.min() == 1.0
    assert state.trust == config.trust_frames  # won back by a voice


def test_retarget_learns_a_linear_map_and_round_trips(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    speaker = np.zeros((400, 32), np.float32)
    speaker[:, :20] = rng.normal(size=(400, 20))
    matrix = rng.normal(size=(20, 20)).astype(np.float32) * 0.3
    face = speaker.copy()
    face[:, :20] = speaker[:, :20] @ matrix.T
    fit_retarget(speaker, face, SPACE, tmp_path / "retarget.safetensors", ridge=1e-3)
    speaker[:, 20:22] = 0.7
    mapped = Retarget.load(tmp_path)(speaker)
    np.testing.assert_allclose(mapped[:, :20], face[:, :20], atol=1e-2)
    np.testing.assert_array_equal(mapped[:, 20:22], 0.7 * np.ones((400, 2), np.float32))


def test_an_avatar_without_a_map_keeps_motion(tmp_path: Path) -> None:
    motion = np.random.default_rng(0).normal(size=(3, 32)).astype(np.float32)
    np.testing.assert_array_equal(Retarget.load(tmp_path)(motion), motion)


@pytest.mark.parametrize(("name", "shape"), [("matrix", (20, 3)), ("matriix", (20, 20))])
def test_a_map_of_another_shape_is_an_error(tmp_path: Path, name: str, shape: tuple[int, int]) -> None:
    file = tmp_path / "retarget.safetensors"
    save_checkpoint(file, {name: torch.zeros(shape)}, kind="retarget", config=RetargetConfig())
    with pytest.raises(ModelError, match="needs a matrix of 20 x 20"):
        Retarget.load(tmp_path)


def test_a_damaged_map_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "retarget.safetensors").write_bytes(b"no such thing")
    with pytest.raises(ModelError):
        Retarget.load(tmp_path)


def test_a_breath_opens_the_gate_before_any_voice_once() -> None:
    breath, loud, silent = (np.zeros((4, 256), np.float32) for _ in range(3))
    breath[:, 0], silent[:, 0] = 0.75, 1.0  # a breath is not quite silence, and no speech
    config = GateConfig()
    state = config.new_state()
    assert open_gate(silent, 0.0, state, 2, config).max() == 0.0
    first = open_gate(breath, 0.0, state, 2, config)
    np.testing.assert_allclose(first, [0.25, 0.5])  # gently
    assert state.value == 0.0  # nobody speaks yet
    for _ in range(int(config.breath_frames) // 2 + config.close_frames):
        last = open_gate(breath, 0.0, state, 2, config)
    assert last.max() == 0.0  # noise that no voice follows
    for _ in range(3):
        open_gate(loud, 1.0, state, 2, config)
    for _ in range(config.hold_frames + config.close_frames):
        open_gate(silent, 1.0, state, 2, config)
    assert state.value == 0.0
    assert open_gate(breath, 0.0, state, 2, config).max() == 0.5  # given back by the voice


def test_an_interrupt_closes_a_breath_too_and_none_follows_it() -> None:
    breath, config = np.zeros((4, 256), np.float32), GateConfig()
    breath[:, 0] = 0.75
    state = config.new_state()
    for _ in range(3):
        open_gate(breath, 0.0, state, 2, config)
    assert state.breath == 1.0
    state.hush(config)
    shut = [open_gate(breath, 0.0, state, 2, config) for _ in range(config.hush_frames // 2)]
    assert np.diff(np.concatenate(shut)).max() < 0 and shut[-1][-1] == 0.0
    assert open_gate(breath, 0.0, state, 2, config).max() == 0.0
