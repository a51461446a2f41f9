"""What a caller is told of a file that is broken here does not say where it lies; the server's log does."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest

from model.avatar import read_avatar_config
from model.errors import ModelError
from stream_server.config import ServerConfig
from stream_server.engine.loading import load
from stream_server.errors import VoiceError
from stream_server.voices.choice import VoiceSettings, choose_voice
from tests.stream_server.fake_pipeline import FakePipeline
from tests.stream_server.server_process import FAKE


def test_a_broken_avatar_is_named_without_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "avatar.json").write_text("{")
    monkeypatch.setattr(FakePipeline, "load_shown", lambda _self, avatar: read_avatar_config(Path(avatar)))
    loaded = load(ServerConfig(pipeline=FAKE, avatars=str(tmp_path), size=128, step_ms=1.0))
    with caplog.at_level(logging.WARNING), pytest.raises(ModelError) as caught:
        loaded.shelf.require("broken")
    assert "cannot read broken/avatar.json: " in str(caught.value)
    assert str(tmp_path) not in str(caught.value)
    assert str(tmp_path / "broken" / "avatar.json") in caplog.text


@pytest.mark.parametrize("content", [None, "{", '{"audio": {}}'])
def test_a_broken_piper_voice_is_named_without_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, content: str | None
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    model = tmp_path / "amy.onnx"
    if content is not None:
        model.with_name("amy.onnx.json").write_text(content)
    with caplog.at_level(logging.WARNING), pytest.raises(VoiceError, match="piper voice") as caught:
        choose_voice(VoiceSettings(piper_model=str(model)), "piper")
    assert str(tmp_path) not in str(caught.value)
    assert str(model) in caplog.text
