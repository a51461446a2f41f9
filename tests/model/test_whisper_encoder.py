"""Whisper's encoder on short windows: equal to Whisper's own, in either precision, alone and behind batch slots."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from whisper.model import AudioEncoder

from kernels.backend import Backend
from kernels.native import cpu_info
from model.speech import encoder_graph
from model.speech.encoder_graph import SLOTS, BatchedSpeech, Compute, serving_precision
from model.speech.folded_encoder import FoldedEncoder
from model.speech.speech_model import SpeechConfig, SpeechModel
from model.speech.whisper_encoder import EncoderConfig, WindowedEncoder, best_precision
from tests.support.closeness import assert_close

SMALL = EncoderConfig(width=64, num_heads=2, num_layers=2)


@pytest.fixture(scope="module")
def speech() -> SpeechModel:
    torch.manual_seed(3)
    return SpeechModel(SpeechConfig(encoder=SMALL)).eval()


def windows(count: int, *, columns: int = 96, mels: int = 80, seed: int = 1) -> Tensor:
    return torch.rand(count, columns, mels, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize("num_mels", [80, 128])
@torch.inference_mode()
def test_at_full_length_it_is_whispers_own_encoder_bit_for_bit(num_mels: int) -> None:
    torch.manual_seed(0)
    stock = AudioEncoder(num_mels, 1500, 64, 2, 2).eval()
    ours = WindowedEncoder(EncoderConfig(num_mels=num_mels, window_columns=3000, width=64, num_heads=2, num_layers=2))
    ours.encoder.load_state_dict(stock.state_dict())
    mel = windows(1, columns=3000, mels=num_mels).transpose(1, 2)
    assert torch.equal(ours(mel)[:, -1], stock(mel))


@torch.inference_mode()
def test_in_bf16_too_it_is_whispers_own() -> None:
    torch.manual_seed(0)
    stock = AudioEncoder(80, 1500, 64, 2, 2).eval()
    ours = WindowedEncoder(EncoderConfig(window_columns=3000, width=64, num_heads=2, num_layers=2))
    ours.encoder.load_state_dict(stock.state_dict())
    ours.set_precision("bf16")
    mel = windows(1, columns=3000).transpose(1, 2)
    assert torch.equal(ours(mel)[:, -1], stock(mel.bfloat16()).float())  # stock casts its weights to the input's type


@torch.inference_mode()
def test_all_layers_come_out_and_the_first_is_the_embedding() -> None:
    torch.manual_seed(0)
    encoder = WindowedEncoder(SMALL).eval()
    states = encoder(windows(2).transpose(1, 2))
    assert states.shape == (2, 3, 48, 64) and states.dtype == torch.float32
    x = encoder.encoder.blocks[1](encoder.encoder.blocks[0](states[:, 0]))
    assert torch.equal(encoder.encoder.ln_post(x), states[:, 2])


@torch.inference_mode()
def test_weights_cast_once_give_the_bits_of_autocast() -> None:
    torch.manual_seed(0)
    encoder = WindowedEncoder(EncoderConfig()).eval()
    once = copy.deepcopy(encoder)
    once.set_precision("bf16")
    mel = windows(2).transpose(1, 2)
    with torch.autocast("cpu", torch.bfloat16):
        under_autocast = encoder(mel)
    assert torch.equal(once(mel), under_autocast)
    assert not torch.equal(once(mel), encoder(mel))
    assert (encoder.precision, once.precision) == ("fp32", "bf16")
    assert_close(once(mel).mean((1, 2)), encoder(mel).mean((1, 2)), precision="bfloat16")


def test_normalisation_and_positions_stay_in_fp32() -> None:
    encoder = WindowedEncoder(SMALL).half()
    encoder.set_precision("bf16")
    types = {name: tensor.dtype for name, tensor in encoder.encoder.state_dict().items()}
    wide = {name for name, dtype in types.items() if dtype == torch.float32}
    assert wide == {name for name in types if "ln" in name or name == "positional_embedding"}
    assert {types[name] for name in types.keys() - wide} == {torch.bfloat16}


def test_the_best_precision_is_one_that_this_machine_multiplies() -> None:
    wanted = (
        "bf16" if {"avx512_bf16", "amx_bf16"} & {k for k, v in torch.cpu.get_capabilities().items() if v} else "fp32"
    )
    assert best_precision(torch.device("cpu")) == wanted


@pytest.mark.parametrize("backend", ["reference", "auto"])
@pytest.mark.parametrize(("last_tokens", "count"), [(None, 1), (8, 3), (48, 2)])
@torch.inference_mode()
def test_folded_it_is_the_same_encoder(backend: Backend, last_tokens: int | None, count: int) -> None:
    torch.manual_seed(1)
    encoder = WindowedEncoder(SMALL).eval()
    mel = windows(count).transpose(1, 2)
    got, wanted = FoldedEncoder(encoder, backend=backend)(mel, last_tokens), encoder(mel, last_tokens)
    assert wanted.abs().max() > 1
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=2e-5)


def test_what_serves_is_folded_in_fp32_and_itself_in_bf16(speech: SpeechModel, monkeypatch: pytest.MonkeyPatch) -> None:
    other = copy.deepcopy(speech)
    other.encoder.set_precision("bf16")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("PyTorch's encoder ran")

    for model in (speech, other):
        monkeypatch.setattr(model.encoder, "forward", refuse)
    assert BatchedSpeech(speech, last_frames=4)(windows(1)).isfinite().all()
    with pytest.raises(AssertionError, match="PyTorch's encoder ran"):
        BatchedSpeech(other, last_frames=4)(windows(1))


@pytest.mark.parametrize(
    ("able", "built", "level", "wanted"),
    [
        ({"avx512_bf16": True}, True, "auto", "fp32"),
        ({"avx512_bf16": True}, False, "auto", "bf16"),
        ({"avx512_bf16": True, "amx_bf16": True}, True, "auto", "bf16"),
        ({"avx512_bf16": True, "amx_bf16": True}, True, "avx2", "fp32"),
        ({}, True, "auto", "fp32"),
        ({}, False, "auto", "fp32"),
    ],
)
def test_serving_takes_the_fastest_precision(
    able: dict[str, bool], built: bool, level: str, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    monkeypatch.setattr(encoder_graph, "cpu_info", lambda: replace(cpu_info(), built=built))
    assert serving_precision(torch.device("cpu"), level) == wanted


@pytest.mark.parametrize("count", [1, 3, 8])
def test_a_batch_gives_what_each_session_gets_alone(speech: SpeechModel, count: int) -> None:
    run = BatchedSpeech(speech, last_frames=4)
    batch = windows(count)
    together = run(batch)
    assert together.shape == (count, 4, 256)
    alone = torch.cat([run(row[None]) for row in batch])
    assert float((together - alone).abs().max()) <= 1e-5


class Recorder:
    """Stands in for CUDA: notes which shapes are captured, and replays into a buffer as a graph does."""

    def __init__(self) -> None:
        self.captured: list[int] = []

    def __call__(self, compute: Compute, example: Tensor) -> Compute:
        self.captured.append(len(example))
        result = compute(example).clone()

        def replay(given: Tensor) -> Tensor:
            assert given.shape == example.shape
            result.copy_(compute(given))
            return result

        return replay


def test_batches_are_padded_to_slots_that_are_captured_once(speech: SpeechModel) -> None:
    recorder = Recorder()
    slotted, plain = BatchedSpeech(speech, last_frames=4, capture=recorder), BatchedSpeech(speech, last_frames=4)
    kept = {count: slotted(windows(count, seed=count)) for count in (1, 3, 4, 5, 70, 1)}
    assert recorder.captured == [1, 4, 8, 32]
    for count, features in kept.items():  # later replays must not have written into earlier results
        assert_close(features, plain(windows(count, seed=count)))


def test_a_neighbour_in_the_slot_changes_nothing(speech: SpeechModel) -> None:
    slotted = BatchedSpeech(speech, last_frames=4, capture=Recorder())
    batch = windows(3)
    before = slotted(batch)
    batch[1] = float("nan")
    after = slotted(batch)
    assert torch.equal(before[[0, 2]], after[[0, 2]])
    assert torch.equal(slotted(windows(3)), before), "what a padded row last held is gone"


def test_warming_up_captures_every_slot(speech: SpeechModel) -> None:
    recorder = Recorder()
    run = BatchedSpeech(speech, last_frames=4, capture=recorder)
    run.warm_up()
    run(windows(7))
    assert sorted(recorder.captured) == list(SLOTS)


@pytest.mark.gpu
def test_cuda_graphs_give_what_eager_gives() -> None:
    torch.manual_seed(3)
    model = SpeechModel(SpeechConfig(encoder=SMALL)).eval().cuda()
    graphs = BatchedSpeech(model, last_frames=4)
    for count in (1, 3, 8, 33, 2):
        batch = windows(count, seed=count)
        with torch.inference_mode():
            eager = model(batch.cuda(), last_frames=4).features.cpu()
        assert_close(graphs(batch), eager)


@pytest.mark.parametrize("kept", [1, 8, 48])
@torch.inference_mode()
def test_the_last_tokens_alone_are_those_of_the_whole_window(kept: int) -> None:
    torch.manual_seed(0)
    encoder = WindowedEncoder(SMALL).eval()
    mel = windows(2).transpose(1, 2)
    assert_close(encoder(mel, kept), encoder(mel)[:, :, -kept:])
