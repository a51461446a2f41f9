"""Choosing an encoder on the command line: what reaches the pipeline, and one line for what cannot be."""

from __future__ import annotations

import socket
import wave
from pathlib import Path
from typing import Any

import pytest
import torch

from model.pipeline import AvatarPipeline
from model.speech.speech_file import save_speech
from model.speech.speech_model import SpeechConfig, SpeechModel
from model.speech.whisper_encoder import EncoderConfig
from stream_server import cli
from stream_server.config import ServerConfig
from stream_server.engine import loading
from tests.support.motion_weights import write_motion


@pytest.fixture
def speech_wav(tmp_path: Path) -> Path:
    path = tmp_path / "a.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(bytes(32_000))
    return path


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(list(arguments)) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and "Traceback" not in captured.err and captured.out.strip() == ""
    return captured.err


@pytest.mark.parametrize("command", ["render", "serve"])
def test_offline_a_whisper_name_is_one_line(
    command: str, speech_wav: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(speech_wav.parent))
    files = ["--audio", str(speech_wav), "--out", str(speech_wav.with_name("a.mp4"))] if command == "render" else []
    text = complaint(capsys, command, "--whisper", "base", *files)
    assert f"Whisper 'base' is not in {speech_wav.parent / 'whisper'}" in text and "pass the path of a copy" in text


def test_motion_of_another_encoder_is_refused_with_the_command(
    tmp_path: Path, speech_wav: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    speech = SpeechConfig(encoder=EncoderConfig(width=64, num_heads=2, num_layers=1))
    save_speech(tmp_path / "speech.safetensors", SpeechModel(speech), {})
    write_motion(tmp_path, "0123456789abcdef")
    out = str(tmp_path / "a.mp4")
    text = complaint(capsys, "render", "--audio", str(speech_wav), "--out", out, "--models", str(tmp_path))
    assert "speech encoder 0123456789abcdef" in text and "run: nerf-lipsync train motion" in text


def test_the_choice_reaches_the_engines_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    class Enough(Exception):  # noqa: N818 - not an error
        pass

    def note(avatar: str | None, **options: Any) -> AvatarPipeline:
        asked.update(options)
        raise Enough

    monkeypatch.setattr(AvatarPipeline, "load", note)
    threads = torch.get_num_threads()
    config = ServerConfig.from_json(ServerConfig(models="/m", whisper="/w.pt").to_json())
    with pytest.raises(Enough):
        loading.load(config)
    torch.set_num_threads(threads)
    assert (asked["models"], asked["whisper"]) == (Path("/m"), Path("/w.pt"))
