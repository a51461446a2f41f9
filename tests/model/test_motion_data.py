"""What motion training hears is what serving hears."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from model.speech.speech_file import LoadedSpeech
from model.speech.speech_model import SpeechConfig, SpeechModel
from model.speech.stream import SpeechFeatures
from model.speech.whisper_encoder import EncoderConfig
from model.training.motion_data import HearingConfig, _cache, stream_features

FRAMES, COLUMNS = 21, 84


@pytest.fixture(scope="module")
def speech() -> SpeechModel:
    torch.manual_seed(0)
    encoder = EncoderConfig(width=32, num_heads=2, num_layers=1)
    return SpeechModel(SpeechConfig(encoder=encoder, patch_channels=4)).eval()


@pytest.mark.parametrize(("hop", "ahead"), [(2, 2), (2, 0), (2, 4), (1, 1), (4, 2)])
@torch.inference_mode()
def test_features_are_those_of_the_stream_at_every_phase(speech: SpeechModel, hop: int, ahead: int) -> None:
    mel = np.random.default_rng(0).normal(0, 0.3, (COLUMNS, 80)).astype(np.float32)
    served = SpeechFeatures(speech, hop_frames=hop, lookahead_frames=ahead)
    for phase in range(hop):
        committed, edge = stream_features(mel, speech, phase, hop_frames=hop, lookahead_frames=ahead)
        wanted = {"committed": torch.zeros(FRAMES, 256), "edge": torch.zeros(FRAMES, 256)}
        state = served.new_state()
        silence = np.full((4 * (hop + ahead), 80), state.columns[0, 0], np.float32)
        heard = (phase + ahead) % hop - hop  # frames heard before the first hop: 1 - hop .. 0
        padded = np.concatenate([silence[: -4 * heard], mel, silence])
        for end in range(heard + hop, FRAMES + ahead + hop + 1, hop):
            columns = padded[4 * (end - hop - heard) : 4 * (end - heard)]
            if len(columns) < 4 * hop:
                break
            state.columns = np.concatenate([state.columns[4 * hop :], columns])
            for offset, row in zip(range(-hop - ahead, 0), served.features([state])[0], strict=True):
                if 0 <= end + offset < FRAMES:
                    wanted["committed" if offset < -ahead else "edge"][end + offset] = row
        torch.testing.assert_close(committed.float(), wanted["committed"], atol=2e-3, rtol=2e-3)
        if ahead:
            torch.testing.assert_close(edge.float(), wanted["edge"], atol=2e-3, rtol=2e-3)


def test_what_was_heard_is_heard_anew_when_its_files_change(tmp_path: Path, speech: SpeechModel) -> None:
    loaded, made_of = LoadedSpeech(speech, "0" * 16), [tmp_path / "manifest.json"]
    made_of[0].write_text("{}")

    def place(config: HearingConfig) -> Path:
        return _cache(tmp_path, "voices", loaded, config, made_of)

    before = place(HearingConfig())
    assert place(HearingConfig()) == before
    assert place(HearingConfig(lookahead_frames=0)) != before
    made_of[0].write_text('{"hours": 9}')
    assert place(HearingConfig()) != before
