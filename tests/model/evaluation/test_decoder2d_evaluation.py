"""The field against a 2-D decoder on the recorded capture: trained a little, measured by the same code, looked at."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.evaluation.decoder2d import DecoderEvaluation, evaluate_decoder, write_sheets
from model.radiance.decoder2d import Decoder2dConfig, load_decoder
from model.training.decoder2d import Decoder2dTraining, train_decoder
from model.training.run import RunConfig


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_a_decoder_is_trained_and_measured_beside_the_field(data_folder: Path, tmp_path: Path) -> None:
    config = Decoder2dTraining(
        net=Decoder2dConfig(hidden=8, channels=(4, 4, 4, 4, 4)),  # 256 px
        run=RunConfig(steps=4, batch=2, learning_rate=1e-3, warmup_steps=1, weight_decay=0.0),
    )
    capture, ict = data_folder / "capture", data_folder / "ict_facekit" / "ict_facekit.npz"
    weights = tmp_path / "decoder2d.safetensors"
    train_decoder(config, capture, ict, weights, tmp_path / "runs")
    net, _ = load_decoder(weights)
    assert net.config.size_px == 256 and net.mean.std() > 1  # it begins with the mean picture
    found = evaluate_decoder(
        DecoderEvaluation(
            decoder=weights,
            capture=capture,
            ict=ict,
            face_landmarker=data_folder / "weights" / "face_landmarker.task",
            hold_out=24,
            turn_step_deg=20,
        )
    )
    field, flat = (found.figures[f"{who}.turn_head_psnr_0_5deg"].value for who in ("field", "decoder"))
    assert field > 33 > flat > 12  # a mean head in about the right place
    assert found.figures["decoder_less_field.turn_head_psnr_0_5deg"].value == pytest.approx(flat - field, abs=0.01)
    for name in ("orbit_head_psnr_20deg", "landmark_frames_lost", "multiply_adds", "head_cpu_ms", "turn_change_rms"):
        assert {f"field.{name}", f"decoder.{name}"} <= set(found.figures)
    assert found.figures["field.landmark_frames_lost"].value == 0
    write_sheets(tmp_path / "sheets", found)
    assert {p.name for p in (tmp_path / "sheets").iterdir()} == {"decoder2d.jpg", "turn.mp4"}
