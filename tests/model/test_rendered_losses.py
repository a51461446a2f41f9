"""Losses on rendered frames: the pictures are serving's, the gradient is right, and it reaches the motion model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from model.avatar import Avatar, load_avatar
from model.diffusion.unet import TemporalUNet, UNetConfig
from model.errors import CheckpointBindingError, ConfigError, DataError, InputError
from model.motion.space import load_motion_space
from model.motion.vae import MotionVae, VaeConfig
from model.radiance.serving import AvatarRenderer
from model.training import rendered_sync
from model.training.rendered_critic import (
    RenderedCritic,
    RenderedCriticConfig,
    load_rendered_critic,
    save_rendered_critic,
)
from model.training.rendered_frames import AvatarFrames
from model.training.rendered_identity import IdentityLoss
from model.training.rendered_losses import RenderedLossConfig, RenderedLosses, load_rendered_losses
from model.training.rendered_sync import (
    RenderedBank,
    RenderedSyncConfig,
    contrast_losses,
    draw_stretches,
    render_bank,
    shift_losses,
)
from model.training.rendered_syncnet import SyncNetJudge
from model.training.rendered_views import ARCFACE_POINTS, arcface_view, head_in_picture, mouth_view
from model.training.run import RunConfig
from model.training.speech_data import normalise_batch
from model.training.sync_critic import SyncBank
from tests.support.closeness import assert_close
from tests.support.onnx_files import write_flatten_network
from tests.support.serving_picture import serving_picture

SPACE = load_motion_space()
HEIGHT, WIDTH = 20, 24
SMALL = RenderedCriticConfig(height_px=HEIGHT, width_px=WIDTH, picture_widths=(4, 6, 8), picture_features=16)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def avatar() -> Avatar:
    return load_avatar()


@pytest.fixture(scope="module")
def frames(avatar: Avatar) -> AvatarFrames:
    return AvatarFrames(avatar, mouth_view(avatar.config, height_px=HEIGHT, width_px=WIDTH))


@pytest.fixture(scope="module")
def losses(avatar: Avatar) -> RenderedLosses:
    return RenderedLosses(avatar, RenderedLossConfig(), sync=_critic(), identity=None)


def _critic() -> RenderedCritic:
    """Untrained, but as sure of itself as a trained one may be."""
    torch.manual_seed(3)
    critic = RenderedCritic(SMALL)
    nn.init.constant_(critic.log_scale, 3.4)
    return critic.eval().requires_grad_(False)


def _motion(batch: int = 1, count: int = 5, seed: int = 0) -> Tensor:
    motion = np.random.default_rng(seed).normal(0, 0.7, (batch, count, 32)).astype(np.float32)
    motion[..., 16:20] *= 0.05
    motion[..., 20:] = 0
    return torch.from_numpy(np.clip(motion, 0.8 * SPACE.low, 0.8 * SPACE.high))


def _sound(batch: int = 1, count: int = 5, seed: int = 1) -> Tensor:
    return torch.rand(batch, 4 * count, 80, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_pictures_are_those_that_serving_renders(avatar: Avatar, frames: AvatarFrames) -> None:
    motion = _motion(count=4)
    found = frames(motion)[0].permute(0, 2, 3, 1).numpy()
    renderer = AvatarRenderer(avatar)
    for made, codes in zip(found, motion[0].numpy(), strict=True):
        wanted = serving_picture(renderer, frames.view, codes)
        under = frames.underlay.reshape(HEIGHT, WIDTH, 3).numpy()
        difference = np.abs(made - (wanted[..., :3] + (1 - wanted[..., 3:]) * under))
        assert difference.mean() < 0.5 / 255 and difference.max() < 12 / 255


def test_a_frame_does_not_depend_on_its_batch(frames: AvatarFrames) -> None:
    motion = _motion(batch=2, count=3)
    with torch.no_grad():
        together = frames(motion)
        alone = frames(motion[1:, 2:])
    assert_close(together[1, 2], alone[0, 0])


def test_gradient_of_pictures_agrees_with_finite_differences(frames: AvatarFrames) -> None:
    y, x = torch.meshgrid(torch.linspace(-1, 1, HEIGHT), torch.linspace(-1, 1, WIDTH), indexing="ij")
    weights = torch.stack([y, x * y, y * y])
    _assert_tangent(lambda at: (frames(at).double() * weights).sum(), count=2, step=1e-4)


def test_gradient_of_the_sync_loss_agrees_with_finite_differences(frames: AvatarFrames) -> None:
    """The critic in float64, so that only the pictures round."""
    critic, sound = _critic().double(), _sound().double()
    _assert_tangent(lambda at: critic.loss(frames(at).double(), sound), count=5, step=2e-4)


def test_beyond_the_space_nothing_moves(frames: AvatarFrames) -> None:
    edge = torch.from_numpy(SPACE.high.copy())[None, None]
    beyond = (edge + 1).requires_grad_()
    picture = frames(beyond)
    assert_close(picture.detach(), frames(edge).detach())
    picture.sum().backward()
    assert beyond.grad is not None and not beyond.grad.any()


def test_steps_on_the_motion_alone_lower_the_sync_loss(losses: RenderedLosses) -> None:
    motion, sound = _motion().requires_grad_(), _sound()
    optimiser = torch.optim.Adam([motion], lr=0.1)
    seen = []
    for _ in range(5):
        loss = losses(motion, sound)["sync"]
        seen.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert min(seen) == seen[-1] < seen[0] - 2e-3


def test_gradient_reaches_the_motion_model(losses: RenderedLosses) -> None:
    torch.manual_seed(0)
    config = UNetConfig(channels=(16, 16, 16), condition_size=16, context_size=16, num_heads=2)
    unet, vae = TemporalUNet(config), MotionVae(VaeConfig()).requires_grad_(False)
    shape = (1, config.window_frames)
    latents = unet(
        torch.randn(*shape, 16),
        torch.ones(1),
        torch.zeros(*shape, 16),
        torch.zeros(*shape),
        torch.randn(*shape, config.feature_size),
        torch.ones(*shape, dtype=torch.bool),
    )
    terms = losses(vae.decode(latents), _sound(count=config.window_frames))
    losses.total(terms).backward()
    gradients = {name: p.grad for name, p in unet.named_parameters()}
    reached = [name for name, g in gradients.items() if g is not None and torch.isfinite(g).all() and g.any()]
    for part in ("enter", "frame_audio", "down.0", "middle", "up.0", "leave", "direct"):
        assert any(name.startswith(part) for name in reached), part
    assert all(p.grad is None for p in losses.parameters())


def test_a_longer_window_is_cut_alike_in_motion_and_sound(losses: RenderedLosses) -> None:
    motion, sound = _motion(count=9), _sound(count=9)
    with torch.no_grad():
        whole = losses(motion, sound)["sync"]
        middle = losses(motion[:, 2:7], sound[:, 8:28])["sync"]
        drawn = {losses(motion, sound, torch.Generator().manual_seed(s))["sync"].item() for s in range(6)}
    assert_close(whole, middle)
    assert len(drawn) > 1


def test_the_face_lies_on_arcfaces_template(avatar: Avatar) -> None:
    from model.evaluation.identity import ARCFACE_TEMPLATE

    assert_close(ARCFACE_POINTS, ARCFACE_TEMPLATE)
    (a, b, c), (d, e, f) = arcface_view(avatar.config).to_picture
    head = head_in_picture(avatar.config)
    eyes = np.stack([head[[33, 133]].mean(0), head[[362, 263]].mean(0)])
    pixels = np.linalg.solve(np.array([[a, b], [d, e]]), (eyes - [c, f]).T).T - 0.5
    assert np.abs(pixels - ARCFACE_TEMPLATE[:2]).max() < 4


def test_mouth_pixels_are_square_and_hold_the_box(avatar: Avatar) -> None:
    view = mouth_view(avatar.config, height_px=32, width_px=64)
    (a, b, left), (d, e, top) = view.to_picture
    x0, y0, x1, y1 = avatar.config.mouth_box
    assert a == pytest.approx(e) and b == d == 0
    assert left <= x0 + 1e-9 and top <= y0 + 1e-9 and left + 64 * a >= x1 - 1e-9 and top + 32 * e >= y1 - 1e-9


def test_identity_of_the_neutral_face_costs_nothing_and_opening_does(avatar: Avatar, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    path = tmp_path / "flatten.onnx"
    write_flatten_network(path, (1, 3, 112, 112))
    config = RenderedLossConfig(identity_frames=2)
    losses = load_rendered_losses(avatar, config, face_network=path)
    neutral = torch.zeros(1, 5, 32)
    with torch.no_grad():
        assert abs(losses(neutral, _sound())["identity"].item()) < 1e-5
    motion = _motion().requires_grad_()
    terms = losses(motion, _sound())
    assert set(terms) == {"identity"} and terms["identity"].item() > 1e-4
    losses.total(terms).backward()
    assert motion.grad is not None
    assert [bool(motion.grad[0, t].any()) for t in range(5)] == [False, True, False, True, False]


@pytest.mark.nightly
def test_mobilefacenet_is_what_opencv_makes_of_it(data_folder: Path, avatar: Avatar) -> None:
    pytest.importorskip("onnx")
    from model.evaluation.identity import FaceEmbedder
    from model.training.rendered_onnx import load_onnx_network

    path = data_folder / "weights" / "mobilefacenet" / "MobileFaceNet.onnx"
    loss = IdentityLoss(avatar, load_onnx_network(path))
    motion = _motion(count=1)
    with torch.no_grad():
        face = loss.frames(motion)[0, 0].permute(1, 2, 0)
        ours = loss.embed(motion)[0, 0].numpy()
    theirs = FaceEmbedder(path).embed((face * 255).round().byte().numpy()[None])[0]
    assert float(ours @ theirs) > 0.999


def test_a_network_of_unknown_operators_is_refused(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    from model.training.rendered_onnx import load_onnx_network

    path = tmp_path / "sine.onnx"
    value = [onnx.helper.make_tensor_value_info(name, 1, [1, 3]) for name in "xy"]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Sin", ["x"], ["y"])], "g", value[:1], value[1:])
    path.write_bytes(onnx.helper.make_model(graph).SerializeToString())
    with pytest.raises(InputError, match="Sin"):
        load_onnx_network(path)
    path.write_bytes(b"not a network")
    with pytest.raises(InputError, match="no face network"):
        load_onnx_network(path)


class _Colours(nn.Module):
    """In SyncNet's place: sees each window's mean blue, green and red, hears three of its numbers."""

    def see(self, pictures: Tensor) -> Tensor:
        assert pictures.shape[0] == 3 and pictures.shape[2:] == (224, 224)
        return pictures.mean((2, 3)).t().unfold(0, 5, 1).mean(2) - 100

    def hear(self, columns: Tensor) -> Tensor:
        assert columns.shape[1:] == (1, 13, 20)
        return columns[:, 0, :3].mean(2)


def test_syncnet_sees_blue_green_red_and_is_a_cross_entropy() -> None:
    judge = SyncNetJudge(_Colours())
    rgb = torch.tensor([110.0, 100.0, 80.0]) / 255  # as BGR minus 100: (-20, 0, 10)
    pictures = rgb.view(1, 1, 3, 1, 1).expand(1, 6, 3, 16, 16)
    cepstra = torch.zeros(1, 24, 13)
    cepstra[..., :3] = torch.tensor([-20.0, 0.0, 10.0])
    assert abs(judge.loss(pictures, cepstra).item()) < 1e-4
    cepstra[..., :3] = torch.tensor([10.0, 7.0, 20.0])  # at right angles
    assert_close(judge.loss(pictures, cepstra).item(), np.log(2), precision="float16")


@pytest.mark.nightly
@pytest.mark.slow
def test_gradient_runs_through_the_real_syncnet(avatar: Avatar) -> None:
    from model.evaluation.syncnet import SyncNet

    torch.manual_seed(0)
    losses = RenderedLosses(avatar, RenderedLossConfig(), sync=SyncNetJudge(SyncNet()), identity=None)
    motion = _motion().requires_grad_()
    losses(motion, torch.randn(1, 20, 13))["sync"].backward()
    assert motion.grad is not None and torch.isfinite(motion.grad).all() and motion.grad[..., :16].any()


def test_critic_windows_and_chance(frames: AvatarFrames) -> None:
    critic = _critic()
    seen, heard = critic.see(torch.rand(2, 9, 3, HEIGHT, WIDTH)), critic.hear(_sound(2, 9))
    assert seen.shape == heard.shape == (2, 5, SMALL.embedding)
    assert_close(seen.norm(dim=-1), torch.ones(2, 5))
    odds = critic.logits(torch.tensor([-1.0, 1.0]))
    assert odds[0] < odds[1]


def test_contrast_is_lowest_for_the_right_sounds() -> None:
    """Embeddings of sound equal to those of the pictures, against the same a frame or three later."""
    config, critic = RenderedSyncConfig(), _critic()
    seen = nn.functional.normalize(torch.randn(2, 24, 16, generator=torch.Generator().manual_seed(0)), dim=-1)
    with torch.no_grad():
        found = [contrast_losses(critic, seen, seen.roll(shift, 1), config)[1] for shift in (0, 1, 3)]
        shifted = shift_losses(critic, seen, seen.roll(2, 1))
    for term in ("loss", "wide", "near", "odds"):
        assert found[0][term] < min(found[1][term], found[2][term]), term
    assert shifted.shape == (2, 31) and (shifted.argmin(1) - 15 == 2).all()


def test_stretches_hold_sound_of_their_own_frames() -> None:
    """Sound and pictures that count the frames: a stretch's sound grows where its pictures do."""
    length, clips = 40, 3
    ramp = np.arange(length)
    pictures = np.broadcast_to((6 * ramp).astype(np.uint8)[None, :, None, None, None], (clips, length, 3, 4, 4))
    raw = np.repeat(ramp / length, 4)[:, None].repeat(80, 1).astype(np.float16)
    bank = RenderedBank(
        np.ascontiguousarray(pictures), SyncBank(np.zeros((clips, length, 20), np.float32), [[raw]] * 3)
    )
    config = RenderedSyncConfig(coloured_share=0.0, picture_noise=0.0, picture_light=0.0, frames=8)
    seen, mel = draw_stretches(bank, config, np.random.default_rng(0))
    whole = normalise_batch(raw[None].astype(np.float32))[0]
    assert seen.shape == (clips, 8, 3, 4, 4) and mel.shape == (clips, 32, 80)
    for clip in range(clips):
        start = round(float(seen[clip, 0, 0, 0, 0]) * 255 / 6)
        assert_close(mel[clip].numpy(), whole[4 * start : 4 * start + 32])


def test_rendering_a_bank_takes_evenly_chosen_clips_and_gains(frames: AvatarFrames) -> None:
    motion = _motion(batch=5, count=2)[..., :20].numpy()
    sounds = [[np.full((8, 80), clip, np.float16)] for clip in range(5)]
    bank = render_bank(frames, SyncBank(motion, sounds), RenderedSyncConfig(clips=3, gain=0.0))
    assert [int(s[0][0, 0]) for s in bank.heard.sounds] == [0, 2, 4]
    with torch.no_grad():
        wanted = frames(torch.nn.functional.pad(torch.from_numpy(motion[2:3]), (0, 12)))[0]
    assert np.abs(bank.pictures[1] / 255 - wanted.numpy()).max() < 0.6 / 255


def test_training_writes_a_critic_for_the_avatar_it_saw(
    avatar: Avatar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    motion = _motion(batch=3, count=21)[..., :20].numpy()
    sounds = [[np.random.default_rng(clip).normal(size=(84, 80)).astype(np.float16)] for clip in range(3)]
    monkeypatch.setattr(rendered_sync, "load_sync_bank", lambda *_: SyncBank(motion, sounds))
    run = RunConfig(steps=2, batch=2, learning_rate=1e-3)
    config = RenderedSyncConfig(run=run, model=SMALL, frames=18)
    out = tmp_path / "rendered_sync.safetensors"
    rendered_sync.train_rendered_sync(tmp_path, tmp_path, out, config, tmp_path / "run")
    losses = load_rendered_losses(avatar, RenderedLossConfig(), critic=out)
    with torch.no_grad():
        assert torch.isfinite(losses(_motion(), _sound())["sync"])
    last = json.loads((tmp_path / "run" / "curve.jsonl").read_text().splitlines()[-1])
    assert last["final"] == 1.0 and np.isfinite(last["val_loss_+0"])


def test_critic_of_another_avatar_is_refused(avatar: Avatar, tmp_path: Path) -> None:
    path = tmp_path / "rendered_sync.safetensors"
    save_rendered_critic(path, _critic(), {})
    again = load_rendered_critic(path)
    assert not any(p.requires_grad for p in again.parameters()) and not again.training
    with pytest.raises(CheckpointBindingError, match="train rendered-sync"):
        load_rendered_losses(avatar, RenderedLossConfig(), critic=path)


def test_what_cannot_be_judged_is_refused(avatar: Avatar, losses: RenderedLosses) -> None:
    with pytest.raises(InputError, match="5 frames or more, got 4"):
        losses(_motion(count=4), _sound(count=4))
    with pytest.raises(DataError, match=r"\(1, 20, 80\)"):
        losses(_motion(), torch.zeros(1, 20, 13))
    with pytest.raises(InputError, match=r"\(B, T, 32\)"):
        losses(torch.zeros(1, 5, 20), _sound())
    with pytest.raises(InputError, match="both"):
        RenderedLosses(avatar, RenderedLossConfig(), sync=None, identity=None)
    with pytest.raises(ConfigError, match="frames"):
        RenderedLossConfig(frames=4)


def test_rendering_is_due_every_so_many_steps() -> None:
    config = RenderedLossConfig(every_steps=3)
    assert [step for step in range(8) if config.due(step)] == [0, 3, 6]


def _assert_tangent(value: Callable[[Tensor], Tensor], count: int, step: float) -> None:
    """Analytic over central difference: 1 +- 0.02 in the median of five motions, none beyond 0.1.

    A single motion may lie within a step of a kink, where a sharp edge crosses a pixel.
    """
    ratios = []
    for seed in range(5):
        motion = _motion(count=count, seed=seed).requires_grad_()
        (gradient,) = torch.autograd.grad(value(motion), motion)
        assert torch.isfinite(gradient).all() and (gradient[..., :16].abs() > 0).all()
        opening = torch.zeros_like(gradient)
        opening[..., 0] = gradient[..., 0].sign()
        for direction in (gradient / gradient.norm(), opening):
            with torch.no_grad():
                measured = (value(motion + step * direction) - value(motion - step * direction)) / (2 * step)
            ratios.append(float((gradient * direction).sum() / measured))
    assert abs(float(np.median(ratios)) - 1) < 0.02 and np.abs(np.array(ratios) - 1).max() < 0.1, ratios
