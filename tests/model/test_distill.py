"""Motion training and distillation on a few made windows: what begins equal, what resumes, what a trajectory is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from model.checkpoint import load_checkpoint
from model.diffusion.samplers import sample
from model.diffusion.unet import TemporalUNet, UNetConfig
from model.errors import ConfigError
from model.motion.vae import MotionVae, VaeConfig
from model.speech.speech_file import load_speech
from model.training.distill import GRID, DistillConfig, teacher_and_student, train_distill, trajectory
from model.training.motion import MotionSources, MotionTrainConfig, save_motion, train_motion
from model.training.motion_items import MotionItems
from model.training.motion_windows import AugmentConfig, WindowSource
from model.training.rendered_losses import RenderedLossConfig
from model.training.rendered_phase import RenderedPhase, RenderedPhaseConfig, filmed_log_mel
from model.training.run import Run, RunConfig

ASSETS = Path(__file__).parents[2] / "model" / "assets"
TINY = UNetConfig(
    process="flow",
    channels=(16, 16, 16),
    condition_size=16,
    context_size=16,
    num_heads=2,
    pose_size=3,
    styles=3,
    dropout=0.1,
)
AUGMENT = AugmentConfig(group_shares={"filmed": 1.0}, own_history_from=0.5)
RUN = RunConfig(steps=4, batch=6, learning_rate=1e-3, warmup_steps=1, save_every=2)


def items(count: int = 3, frames: int = 24) -> MotionItems:
    generator = torch.Generator().manual_seed(3)
    total = count * frames
    motion = torch.zeros(total, 32)
    motion[:, :20] = torch.randn(total, 20, generator=generator)
    features = torch.randn(2, total, 256, generator=generator).half()
    return MotionItems(
        committed=features[0],
        edge=features[1],
        motion=motion,
        flow=torch.randn(total, 78, 2, generator=generator).half() * 0.01,
        flow_confidence=torch.ones(total, 78, dtype=torch.float16),
        start=torch.arange(count) * frames,
        frames=torch.full((count,), frames),
        phase=torch.zeros(count, dtype=torch.long),
        style=torch.zeros(count, dtype=torch.long),
    )


@pytest.fixture(scope="module")
def sources() -> MotionSources:
    saved = load_checkpoint(ASSETS / "motion_vae.safetensors", kind="motion-vae", config_cls=VaeConfig)
    vae = MotionVae(saved.config)
    vae.load_state_dict(saved.tensors)
    vae.eval().requires_grad_(False)
    speech = load_speech(ASSETS / "speech.safetensors")
    return MotionSources(speech, vae, saved.content_hash, {"filmed": items()}, items(2))


def motion_config(**model: object) -> MotionTrainConfig:
    return MotionTrainConfig(run=RUN, model=replace(TINY, **model), augment=AUGMENT)  # type: ignore[arg-type]


@pytest.mark.parametrize("process", ["ddpm", "flow", "mean"])
def test_a_resumed_motion_training_ends_where_an_unbroken_one_does(
    sources: MotionSources, tmp_path: Path, process: str
) -> None:
    config = motion_config(process=process)
    whole = train_motion(sources, tmp_path / "a.safetensors", config, tmp_path / "a")
    broken = tmp_path / "c"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "finished", lambda self: self.step >= 2)
        train_motion(sources, tmp_path / "c.safetensors", config, broken)
    assert train_motion(sources, tmp_path / "c.safetensors", config, broken) == whole


def test_a_student_begins_as_its_teacher(tmp_path: Path) -> None:
    torch.manual_seed(0)
    unet = TemporalUNet(TINY)
    save_motion(tmp_path / "teacher.safetensors", unet, {})
    teacher, student = teacher_and_student(tmp_path / "teacher.safetensors")
    assert student.config.process == "flow-map"
    window = torch.randn(2, 16, 16)
    args = (window, torch.ones(2), torch.zeros(2, 16, 16), torch.zeros(2, 16), torch.randn(2, 16, 256))
    heard = torch.ones(2, 16, dtype=torch.bool)
    torch.testing.assert_close(student.eval()(*args, heard, torch.full((2,), 0.5)), teacher(*args, heard))


@pytest.mark.parametrize("process", ["ddpm", "mean"])
def test_only_a_flow_is_distilled(tmp_path: Path, process: str) -> None:
    save_motion(tmp_path / "t.safetensors", TemporalUNet(replace(TINY, process=process)), {})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=f"trained as '{process}'"):
        teacher_and_student(tmp_path / "t.safetensors")


def test_a_resumed_distillation_ends_where_an_unbroken_one_does(sources: MotionSources, tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_motion(tmp_path / "teacher.safetensors", TemporalUNet(TINY), {})
    config = DistillConfig(run=RUN, augment=AUGMENT, euler_steps=0, heun_steps=4, pool_windows=10, pool_steps=3)
    teacher = tmp_path / "teacher.safetensors"
    whole = train_distill(sources, teacher, tmp_path / "a.safetensors", config, tmp_path / "a")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "finished", lambda self: self.step >= 2)  # within the first pool
        train_distill(sources, teacher, tmp_path / "b.safetensors", config, tmp_path / "b")
    assert train_distill(sources, teacher, tmp_path / "b.safetensors", config, tmp_path / "b") == whole


@pytest.mark.parametrize(("steps", "euler"), [(16, False), (100, True)])
def test_a_teachers_trajectory_is_the_flows_own(
    sources: MotionSources, tmp_path: Path, steps: int, euler: bool
) -> None:
    """For data N(0, s^2) the flow carries noise e to time t at e sqrt((1 - t)^2 s^2 + t^2), and the mean is 0."""
    spread = 0.5

    class Gaussian(TemporalUNet):
        def forward(self, noisy: Tensor, noise_time: Tensor, *args: object, **more: object) -> Tensor:
            t = noise_time[:, None, None]
            return noisy * (1 - t) * spread**2 / ((1 - t) ** 2 * spread**2 + t**2)

    source = WindowSource(sources.train, sources.vae, TINY, AUGMENT)
    windows, _ = source.past_of(4, torch.Generator().manual_seed(0))
    run = Run(tmp_path, "distill", TemporalUNet(TINY), replace(RUN, precision="float32"))
    path, mean = trajectory(Gaussian(TINY).eval(), windows, torch.Generator().manual_seed(1), steps, run, euler=euler)
    noise = path[:, GRID]
    for quarter in range(GRID):
        t = quarter / GRID
        size = ((1 - t) ** 2 * spread**2 + t**2) ** 0.5
        torch.testing.assert_close(path[:, quarter], size * noise, atol=0.02, rtol=0.03)
    torch.testing.assert_close(mean, torch.zeros_like(mean), atol=1e-6, rtol=0)


def test_euler_is_the_teachers_own_sampler(sources: MotionSources, tmp_path: Path) -> None:
    """What the path ends in is what `sample` makes of the same noise, in as many steps."""
    torch.manual_seed(0)
    teacher = TemporalUNet(TINY).eval()
    windows, _ = WindowSource(sources.train, sources.vae, TINY, AUGMENT).past_of(3, torch.Generator().manual_seed(0))
    run = Run(tmp_path, "distill", TemporalUNet(TINY), replace(RUN, precision="float32"))
    path, _ = trajectory(teacher, windows, torch.Generator().manual_seed(1), 8, run, euler=True)
    with torch.no_grad():
        made = sample(
            "flow", lambda x, t, _: windows.denoised(teacher, x, t), path[:, GRID], num_steps=8, num_timesteps=8
        )
    torch.testing.assert_close(path[:, 0], made, atol=1e-5, rtol=1e-5)


def test_a_student_goes_on_from_an_earlier_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    student = TemporalUNet(replace(TINY, process="flow-map", dropout=0.0))
    teacher, earlier = tmp_path / "teacher.safetensors", tmp_path / "earlier.safetensors"
    save_motion(teacher, TemporalUNet(TINY), {})
    save_motion(earlier, student, {})
    begun = teacher_and_student(teacher, earlier)[1]
    for name, value in student.state_dict().items():
        torch.testing.assert_close(begun.state_dict()[name], value.half().float())
    with pytest.raises(ConfigError, match="no student of"):
        teacher_and_student(teacher, teacher)
    with pytest.raises(ConfigError, match="euler_steps"):
        DistillConfig(euler_steps=50)


class _Judge:
    """Losses of the motion itself, in place of its pictures; keeps what it was given."""

    config = RenderedLossConfig(every_steps=2)

    def __init__(self) -> None:
        self.given: list[tuple[Tensor, Tensor]] = []

    def __call__(self, motion: Tensor, sound: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        self.given.append((motion, sound))
        return {"sync": motion.square().mean()}

    def total(self, terms: dict[str, Tensor]) -> Tensor:
        return 10.0 * terms["sync"]


def test_the_last_phase_judges_what_the_network_makes_with_the_sound_of_its_frames(
    sources: MotionSources, tmp_path: Path
) -> None:
    judge = _Judge()

    def sound_of(item: Tensor, frames: Tensor) -> Tensor:
        return frames.float().repeat_interleave(4, 1)[..., None].expand(-1, -1, 80)

    phase = RenderedPhase(judge, sound_of, 3, RenderedPhaseConfig(begins=0.5, windows=2))  # type: ignore[arg-type]
    config = motion_config()
    judged = train_motion(sources, tmp_path / "a.safetensors", config, tmp_path / "a", rendered=phase)
    assert judged != train_motion(sources, tmp_path / "b.safetensors", config, tmp_path / "b")
    assert len(judge.given) == 1  # steps 2 and 3 are the last phase, every second one is paid for
    motion, sound = judge.given[0]
    assert motion.shape == (2, 8, 32) and motion.requires_grad
    assert sound.shape == (2, 32, 80)
    first = sound[:, 0, 0]
    assert ((first >= 0) & (first + 8 <= 24)).all() and (first % 2 == 0).all()


def test_sound_of_filmed_clips_follows_the_items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    clips = [SimpleNamespace(sound=rng.normal(0, 0.1, 16_000).astype(np.float32)) for _ in range(2)]
    monkeypatch.setattr("model.training.rendered_phase.load_clips", lambda folder: clips)
    sound_of = filmed_log_mel(tmp_path, 2, 80)
    frames = torch.tensor([[3, 4], [3, 4], [3, 4]])
    a, b, c = sound_of(torch.tensor([0, 1, 2]), frames)
    torch.testing.assert_close(a, b)  # one clip at both hop phases
    assert (a - c).abs().max() > 0.1
    torch.testing.assert_close(sound_of(torch.tensor([0]), torch.tensor([[4]]))[0], a[4:])
    end = sound_of(torch.tensor([0]), torch.tensor([[24, 25]]))[0]  # 25 frames of sound: none for frame 25
    torch.testing.assert_close(end[4:], end[3:4].expand(4, -1))
