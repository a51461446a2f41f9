"""Whisper checkpoints by name, by path, offline, damaged, foreign, and with large-v3's true dimensions."""

from __future__ import annotations

import hashlib
import resource
import socket
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import whisper
from safetensors.torch import save_file
from torch import Tensor

from model.errors import CheckpointError, InputError, ModelError
from model.speech.speech_file import new_whisper_speech
from model.speech.speech_model import FEATURE_SIZE
from model.speech.stream import SpeechFeatures
from model.speech.whisper_source import (
    default_whisper_cache,
    find_whisper,
    load_whisper_encoder,
    official_name,
)
from tests.support.whisper_checkpoints import LARGE_V3, SMALL, new_encoder, random_state, write_whisper

TURBO = {**SMALL, "n_mels": 128}
"""large-v3's bands on a small encoder."""


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No name resolves."""

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def test_whispers_table_of_addresses_has_the_form_we_read() -> None:
    """`whisper._MODELS` is private: name to .../SHA-256/FILE.pt."""
    assert set(whisper._MODELS) == set(whisper.available_models())
    for name, url in whisper._MODELS.items():
        sha256, file = url.split("/")[-2:]
        assert len(bytes.fromhex(sha256)) == 32 and file.endswith(".pt") and url.startswith("https://")
        assert whisper._MODELS[official_name(sha256)] == url, name
    assert official_name("0" * 64) == ""


def test_offline_a_name_is_one_line_that_says_what_to_do(
    offline: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(InputError) as caught:
        find_whisper("base", tmp_path / "cache")
    text = str(caught.value)
    for part in ("Whisper 'base' is not in", "Name or service not known", "copy base.pt there", "pass the path"):
        assert part in text
    assert "\n" not in text and list((tmp_path / "cache").iterdir()) == []
    assert caplog.text == ""


def test_a_server_that_never_answers_does_not_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/{'0' * 64}/base.pt"
        monkeypatch.setitem(whisper._MODELS, "base", url)
        with pytest.raises(InputError, match="timed out"):
            find_whisper("base", tmp_path, timeout_s=0.2)


def test_what_a_server_sends_is_announced_verified_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sent = write_whisper(tmp_path / "sent.pt", SMALL, random_state(SMALL, torch.float16))
    sha256 = hashlib.sha256(sent.read_bytes()).hexdigest()
    folder = tmp_path / "www" / sha256
    folder.mkdir(parents=True)
    sent.rename(folder / "base.pt")
    monkeypatch.setitem(whisper._MODELS, "base", (folder / "base.pt").as_uri())
    found = find_whisper("base", tmp_path / "cache")
    assert found.path == tmp_path / "cache" / "base.pt" and found.sha256 == sha256
    assert "fetching Whisper 'base'" in caplog.text
    (folder / "base.pt").write_bytes(b"something else")
    found.path.unlink()
    with pytest.raises(InputError, match="refused 14 bytes"):
        find_whisper("base", tmp_path / "cache")


def test_a_kept_file_is_used_by_name_without_asking_anybody(
    offline: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = write_whisper(tmp_path / "base.pt", SMALL, random_state(SMALL, torch.float16))
    sha256 = hashlib.sha256(kept.read_bytes()).hexdigest()
    monkeypatch.setitem(whisper._MODELS, "base", f"https://example.invalid/{sha256}/base.pt")
    found = find_whisper("base", tmp_path)
    assert (found.path, found.sha256, found.name) == (kept, sha256, "base")
    kept.write_bytes(kept.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"base\.pt has sha256 .* delete it, or pass the path"):
        find_whisper("base", tmp_path)


def test_a_path_needs_no_official_hash(tmp_path: Path) -> None:
    own = write_whisper(tmp_path / "mine.pt", SMALL, random_state(SMALL, torch.float32))
    found = find_whisper(str(own), tmp_path / "unused")
    assert found.name == "mine.pt" and found.sha256 == hashlib.sha256(own.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        ("bsae", "no Whisper model 'bsae': .* tiny"),
        ("x/base.pt", "no Whisper checkpoint at x/base.pt"),
        (".", "folder"),
    ],
)
def test_what_is_neither_name_nor_file_is_refused(asked: str, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=complaint):
        find_whisper(asked, tmp_path)


def test_the_cache_is_whispers_own() -> None:
    home = Path("/home/anna")
    assert default_whisper_cache({}, home) == home / ".cache" / "whisper"
    assert default_whisper_cache({"XDG_CACHE_HOME": "/var/kept"}, home) == Path("/var/kept/whisper")


@pytest.mark.parametrize("dims", [SMALL, TURBO])
@pytest.mark.parametrize("decoder", [True, False])
@torch.inference_mode()
def test_the_encoder_of_a_checkpoint_is_whispers_own(tmp_path: Path, dims: dict[str, int], decoder: bool) -> None:
    stock = new_encoder(dims)
    path = write_whisper(tmp_path / "w.pt", dims, stock.state_dict(), decoder=decoder)
    if decoder:
        stock = whisper.load_model(str(path), device="cpu").encoder
    full = load_whisper_encoder(path, window_columns=3000)
    mel = torch.randn(1, dims["n_mels"], 3000)
    assert torch.equal(full(mel)[:, -1], stock(mel))
    window = load_whisper_encoder(path)
    assert window.config.window_tokens == 48 and not any(p.requires_grad for p in window.parameters())
    assert torch.equal(window.encoder.positional_embedding, stock.positional_embedding[:48])


@torch.inference_mode()
def test_half_precision_weights_are_kept_small_and_cast_once(tmp_path: Path) -> None:
    path = write_whisper(tmp_path / "w.pt", SMALL, random_state(SMALL, torch.float16))
    encoder = load_whisper_encoder(path)
    assert {p.dtype for p in encoder.parameters()} == {torch.float16}
    encoder.set_precision("fp32")
    stock = whisper.load_model(str(path), device="cpu").encoder
    mel = torch.randn(1, 80, 96)
    x = torch.nn.functional.gelu(stock.conv2(torch.nn.functional.gelu(stock.conv1(mel)))).permute(0, 2, 1)
    for block in stock.blocks:
        x = block(x if block is not stock.blocks[0] else x + stock.positional_embedding[:48])
    assert torch.equal(encoder(mel)[:, -1], stock.ln_post(x))


def test_the_file_may_go_once_it_is_loaded(tmp_path: Path) -> None:
    path = write_whisper(tmp_path / "w.pt", SMALL, random_state(SMALL, torch.float32))
    encoder = load_whisper_encoder(path)
    before = encoder.encoder.conv2.weight.clone()
    path.write_bytes(b"")  # would be a bus error under a map of the file
    assert torch.equal(encoder.encoder.conv2.weight, before)


@torch.inference_mode()
def test_a_checkpoint_of_the_old_torch_format_loads_too(tmp_path: Path) -> None:
    path = write_whisper(tmp_path / "w.pt", SMALL, random_state(SMALL, torch.float32))
    torch.save(torch.load(path, weights_only=True), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    mel = torch.randn(1, 80, 96)
    assert torch.equal(load_whisper_encoder(tmp_path / "old.pt")(mel), load_whisper_encoder(path)(mel))


def hugging_face_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """As `transformers.WhisperModel` stores an encoder."""
    words = {
        "blocks.": "layers.",
        "attn_ln.": "self_attn_layer_norm.",
        "attn.query": "self_attn.q_proj",
        "attn.key": "self_attn.k_proj",
        "attn.value": "self_attn.v_proj",
        "attn.out": "self_attn.out_proj",
        "mlp_ln.": "final_layer_norm.",
        "mlp.0": "fc1",
        "mlp.2": "fc2",
        "ln_post.": "layer_norm.",
        "positional_embedding": "embed_positions.weight",
    }
    named = {}
    for name, tensor in state.items():
        for ours, theirs in words.items():
            if ours in name:
                name = name.replace(ours, theirs, 1)
                if ours != "blocks.":
                    break
        named[f"model.encoder.{name}"] = tensor
    return named


@pytest.mark.parametrize("naming", ["whisper", "hugging face"])
@torch.inference_mode()
def test_safetensors_in_either_naming(tmp_path: Path, naming: str) -> None:
    dims = {**SMALL, "n_audio_state": 128}  # heads are 64 wide in every released size
    state = new_encoder(dims).state_dict()
    pt = write_whisper(tmp_path / "w.pt", dims, state)
    named = hugging_face_names(state) if naming == "hugging face" else {f"encoder.{k}": v for k, v in state.items()}
    save_file({**named, "model.decoder.embed_tokens.weight": torch.zeros(3)}, tmp_path / "w.safetensors")
    mel = torch.randn(1, 80, 96)
    assert torch.equal(load_whisper_encoder(tmp_path / "w.safetensors")(mel), load_whisper_encoder(pt)(mel))


def test_truncated_files_are_refused_wherever_they_end(tmp_path: Path) -> None:
    whole = write_whisper(tmp_path / "w.pt", SMALL, random_state(SMALL, torch.float16), decoder=False).read_bytes()
    path = tmp_path / "cut.pt"
    for length in (0, 1, 40, 4000, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"cut\.pt: is (truncated|not a checkpoint)"):
            load_whisper_encoder(path)


def test_flipped_bits_never_end_in_another_error(tmp_path: Path) -> None:
    """In the pickle or the archive's directory they are refused; in the weights they load (the hash is for those)."""
    whole = write_whisper(tmp_path / "w.pt", SMALL, random_state(SMALL, torch.float16), decoder=False).read_bytes()
    path = tmp_path / "flipped.pt"
    generator = torch.Generator().manual_seed(7)
    messages = []
    for span in (range(0, 6000), range(len(whole) - 6000, len(whole))):  # data.pkl; the central directory
        for offset in torch.randint(len(span), (60,), generator=generator).tolist():
            damaged = bytearray(whole)
            damaged[span[offset]] ^= 0x5A
            path.write_bytes(damaged)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch remarks on odd types in a damaged pickle
                try:
                    load_whisper_encoder(path)
                except CheckpointError as error:
                    messages.append(str(error))
    assert len(messages) > 30 and not any("\n" in message for message in messages)


class Trap:
    """Would write a file if it were unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.path, "ran")


def test_code_in_a_checkpoint_is_refused_and_does_not_run(tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    path = write_whisper(tmp_path / "w.pt", SMALL, random_state(SMALL, torch.float16), extra=Trap(sprung))
    with pytest.raises(CheckpointError, match="holds Python objects beside weights: refused"):
        load_whisper_encoder(path)
    assert not sprung.exists()


def altered(**changes: Any) -> dict[str, Any]:
    return {**SMALL, **changes}


@pytest.mark.parametrize(
    ("dims", "complaint"),
    [
        (altered(n_mels=64), "wants 64 mel bands"),
        (altered(n_audio_layer=3), r"encoder\.blocks\.2\.\S+ is missing"),
        (altered(n_audio_layer=1), r"an encoder tensor that Whisper lacks: blocks\.1"),
        (altered(n_audio_state=128), r"has the shape .*its dimensions say"),
        (altered(n_audio_head=5), "5 heads for a width of 64"),
        (altered(n_audio_ctx=40), "knows 40 tokens, the window has 48"),
        (altered(n_audio_state=10**9), "n_audio_state 1000000000"),
        (altered(n_audio_head=0), "n_audio_head 0"),
        (altered(n_mels="80"), "n_mels '80'"),
        ({"n_mels": 80}, "n_audio_ctx None"),
    ],
)
def test_dimensions_that_do_not_fit_are_named(tmp_path: Path, dims: dict[str, Any], complaint: str) -> None:
    path = write_whisper(tmp_path / "w.pt", SMALL, random_state(SMALL, torch.float16), decoder=False)
    held = torch.load(path, weights_only=True)
    torch.save({**held, "dims": dims}, path)
    with pytest.raises(CheckpointError, match=complaint):
        load_whisper_encoder(path)


@pytest.mark.parametrize(
    ("held", "complaint"),
    [
        ({"w": torch.zeros(3)}, "no 'dims'"),
        ([1, 2], "no 'dims'"),
        ({"dims": dict(SMALL)}, "no 'model_state_dict'"),
        ({"dims": dict(SMALL), "model_state_dict": {"decoder.x": torch.zeros(1)}}, "no encoder tensors"),
        ({"dims": dict(SMALL), "model_state_dict": {"encoder.conv1.weight": "x"}}, r"encoder\.\S+ is missing"),
    ],
)
def test_foreign_torch_files_are_refused(tmp_path: Path, held: Any, complaint: str) -> None:
    torch.save(held, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=complaint):
        load_whisper_encoder(tmp_path / "w.pt")


def test_foreign_safetensors_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match="no encoder tensors"):
        load_whisper_encoder(path)
    save_file({"encoder.conv1.weight": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match=r"lacks conv1\.weight"):
        load_whisper_encoder(path)
    path.write_bytes(b"no tensors")
    with pytest.raises(ModelError, match="truncated or not a safetensors file"):
        load_whisper_encoder(path)


def stream_one_hop(path: Path, cache: Path) -> Tensor:
    model = new_whisper_speech(find_whisper(str(path), cache))
    features = SpeechFeatures(model, hop_frames=2, lookahead_frames=2)
    state = features.new_state()
    features.advance(torch.randn(features.hop_samples, generator=torch.Generator().manual_seed(0)).numpy() * 0.1, state)
    assert state.columns.shape == (96, 128)
    return features.features([state])


def test_a_local_checkpoint_with_128_bands_streams(tmp_path: Path) -> None:
    path = write_whisper(tmp_path / "w.pt", TURBO, random_state(TURBO, torch.float16))
    out = stream_one_hop(path, tmp_path)
    assert out.shape == (1, 4, FEATURE_SIZE) and bool(out.isfinite().all()) and float(out.std()) > 0.01


@pytest.mark.nightly
@pytest.mark.timeout(600)
def test_a_local_checkpoint_with_large_v3s_true_dimensions_streams(tmp_path: Path) -> None:
    path = write_whisper(tmp_path / "large-v3.pt", LARGE_V3, random_state(LARGE_V3, torch.float16))
    assert path.stat().st_size > 1.2e9
    out = stream_one_hop(path, tmp_path)
    assert out.shape == (1, 4, FEATURE_SIZE) and bool(out.isfinite().all()) and float(out.std()) > 0.01
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    assert peak_gib < 4.5, "the encoder twice in half precision and torch itself, never in float32"
