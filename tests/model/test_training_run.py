"""Resuming equals going on; optimisers, devices and precisions; the phoneme inventory; batched normalising."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model.checkpoint import load_checkpoint, save_checkpoint
from model.config import config_to_dict
from model.errors import ConfigError, DataError, ModelError
from model.speech.log_mel import LogMel, LogMelState
from model.speech.phonemes import GRID_LEXICON, PHONEMES, phoneme_from_ipa
from model.training.devices import choose_device, choose_dtype
from model.training.run import STATE, Run, RunConfig
from model.training.speech_data import normalise_batch

CONFIG = RunConfig(steps=20, batch=8, learning_rate=0.05, save_every=5, warmup_steps=3)


@dataclass(frozen=True, kw_only=True)
class FormerRunConfig:
    """RunConfig as it was when state files did not name optimiser, device and precision."""

    steps: int
    batch: int
    learning_rate: float
    warmup_steps: int
    final_share: float
    weight_decay: float
    grad_clip: float
    ema_decay: float
    save_every: int
    seed: int


def train(folder: Path, stop_at: int | None = None, config: RunConfig = CONFIG) -> torch.nn.Linear:
    torch.manual_seed(1)
    module = torch.nn.Linear(4, 3)
    run = Run(folder, "toy", module, config)
    while not run.finished():
        x = torch.randn(run.batch, 4, generator=run.generator())
        with run.autocast():
            loss = (module(x) - x[:, :3] * 2).square().mean()
        run.update(loss)
        if run.step == stop_at:
            break
    return module


def assert_equal(one: torch.nn.Module, other: torch.nn.Module) -> None:
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize(
    "options", [{}, {"optimiser": "adam", "betas": (0.9, 0.999), "weight_decay": 0.0}, {"precision": "bfloat16"}]
)
def test_a_resumed_run_ends_where_an_unbroken_one_does(tmp_path: Path, options: dict[str, Any]) -> None:
    config = replace(CONFIG, **options)
    whole = train(tmp_path / "a", config=config)
    train(tmp_path / "b", stop_at=12, config=config)  # saved at 10; 11 and 12 are lost and done again
    assert_equal(whole, train(tmp_path / "b", config=config))


def test_a_state_file_from_before_there_were_optimisers_to_choose_goes_on(tmp_path: Path) -> None:
    whole = train(tmp_path / "a")
    train(tmp_path / "b", stop_at=12)
    path = tmp_path / "b" / STATE
    state = load_checkpoint(path, kind="toy-run", config_cls=RunConfig)
    known = {k: v for k, v in config_to_dict(state.config).items() if k in FormerRunConfig.__dataclass_fields__}
    former = FormerRunConfig(**known)
    save_checkpoint(path, state.tensors, kind="toy-run", config=former, metadata=state.metadata)
    assert_equal(whole, train(tmp_path / "b"))


def test_adam_is_the_published_one(tmp_path: Path) -> None:
    """The first step of Adam is the learning rate times the gradient's sign, whatever its size."""
    module = torch.nn.Linear(2, 1, bias=False)
    before = module.weight.detach().clone()
    config = RunConfig(
        steps=9, batch=1, learning_rate=0.1, warmup_steps=0, optimiser="adam", betas=(0.9, 0.999), weight_decay=0.0
    )
    Run(tmp_path, "toy", module, config).update((module.weight * torch.tensor([3.0, -0.01])).sum())
    torch.testing.assert_close(module.weight.detach() - before, torch.tensor([[-0.1, 0.1]]), rtol=1e-3, atol=1e-5)


def test_a_run_of_another_model_is_not_gone_on_with(tmp_path: Path) -> None:
    train(tmp_path)
    with pytest.raises(DataError, match="holds a run of another model"):
        Run(tmp_path, "toy", torch.nn.Linear(4, 5), CONFIG)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimiser": "adam"}, "takes weight_decay 0, got 0.01"),
        ({"betas": (0.9, 1.0)}, r"betas must be in 0\.\.1, got \(0\.9, 1\.0\)"),
    ],
)
def test_what_an_optimiser_cannot_do_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(CONFIG, **options)


def test_products_are_in_the_precision_asked_for(tmp_path: Path) -> None:
    for name, dtype in (("bfloat16", torch.bfloat16), ("float32", torch.float32)):
        module = torch.nn.Linear(4, 3)
        run = Run(tmp_path / name, "toy", module, replace(CONFIG, precision=name))
        with run.autocast():
            assert module(torch.ones(1, 4)).dtype == dtype
        assert module.weight.dtype == torch.float32


def test_devices_and_precisions_that_are_not_there_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert choose_device("auto") == torch.device("cpu")
    with pytest.raises(ConfigError, match="'cuda' was asked for and this machine has none"):
        choose_device("cuda")
    with pytest.raises(ConfigError, match="'float16' needs CUDA"):
        choose_dtype("float16", torch.device("cpu"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("auto", local_rank=1) == torch.device("cuda", 1)
    with pytest.raises(ConfigError, match="process 2 of this machine has no GPU of its own, there are 2"):
        choose_device("cuda", local_rank=2)


def test_auto_is_bfloat16_only_where_the_processor_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for able, dtype in (({"avx512_bf16": True}, torch.bfloat16), ({"avx2": True}, torch.float32)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: able)
        assert choose_dtype("auto", torch.device("cpu")) == dtype


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_resumed_run_on_a_gpu_keeps_its_scale(tmp_path: Path, precision: str) -> None:
    config = replace(CONFIG, device="cuda", precision=precision)
    for stop_at in (12, None):
        module = torch.nn.Linear(4, 3)
        run = Run(tmp_path, "toy", module, config)
        while not run.finished() and run.step != stop_at:
            x = torch.randn(8, 4, generator=run.generator()).to(run.device)
            with run.autocast():
                loss = (module(x) - x[:, :3] * 2).square().mean()
            run.update(loss)
    assert run.step == config.steps and module.weight.device.type == "cuda"
    assert Run(tmp_path, "toy", module, config).scaler.get_scale() == run.scaler.get_scale()


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    module = torch.nn.Linear(1, 1)
    run = Run(tmp_path, "toy", module, RunConfig(steps=2, batch=1, learning_rate=0.1))
    with pytest.raises(ModelError, match="loss is nan at step 0"):
        run.update(module(torch.full((1, 1), float("nan"))).sum())


def test_the_lexicon_covers_grid_with_known_phonemes() -> None:
    assert len(GRID_LEXICON) == 51
    assert all(p in PHONEMES for phones in GRID_LEXICON.values() for p in phones)


@pytest.mark.parametrize(
    ("ipa", "name"), [("tʃ", "ch"), ("iː", "iy"), ("ˈɑːɹ", "aa"), ("ɔ̃", "nas"), ("ʁ", "kh"), ("_", "")]
)
def test_ipa_maps_to_our_phonemes(ipa: str, name: str) -> None:
    assert phoneme_from_ipa(ipa) == name


def test_an_unknown_symbol_is_an_error() -> None:
    with pytest.raises(KeyError):
        phoneme_from_ipa("Ж")


def test_batched_normalising_equals_streaming() -> None:
    log_mel = LogMel()
    audio = np.random.default_rng(0).normal(0, 0.05, 16_000).astype(np.float32)
    raw = log_mel.push_raw(audio, LogMelState())
    np.testing.assert_allclose(normalise_batch(raw[None])[0], log_mel.normalise(raw, LogMelState()), atol=1e-5)
