"""One avatar, several motions: the file that is written, and what cannot be shown."""

from __future__ import annotations

import wave
from pathlib import Path

import av
import numpy as np
import pytest

from model.errors import CheckpointError, InputError
from model.evaluation.side_by_side import SideBySide, write_comparison
from tests.support.made_speech import made_speech
from tests.support.small_drive import shipped_hashes, small_unet, write_unet

SIZE_PX = 64


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return write_unet(tmp_path / "small.safetensors", small_unet(process="flow"), shipped_hashes())


def write_sound(path: Path, seconds: float) -> Path:
    samples = (made_speech(1.0)[: round(seconds * 16_000)] * 32767).astype(np.int16)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(samples.tobytes())
    return path


def test_panels_stand_side_by_side_with_the_sound(tmp_path: Path, weights: Path) -> None:
    request = SideBySide(audio=write_sound(tmp_path / "a.wav", 0.4), teacher=weights, student=weights, size_px=SIZE_PX)
    out = tmp_path / "deep" / "out.mp4"
    assert write_comparison(out, request) == ("teacher, 50 steps", "student, 2 steps", "student, 1 step")
    with av.open(str(out)) as container:
        video = container.streams.video[0]
        assert (video.width, video.height > SIZE_PX, video.frames) == (3 * SIZE_PX, True, 10)
        assert container.streams.audio[0].rate == 16_000
        assert "student, 1 step: synthetic" in container.metadata["comment"]
    assert [p.name for p in out.parent.iterdir()] == ["out.mp4"]


def test_less_than_a_frame_of_sound_is_refused(tmp_path: Path) -> None:
    short = write_sound(tmp_path / "short.wav", 0.03)
    with pytest.raises(InputError, match="480 samples, less than one frame"):
        write_comparison(tmp_path / "out.mp4", SideBySide(audio=short))


def test_a_teacher_that_is_not_there_leaves_no_file(tmp_path: Path) -> None:
    request = SideBySide(audio=write_sound(tmp_path / "a.wav", 0.2), teacher=tmp_path / "absent.safetensors")
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        write_comparison(tmp_path / "out.mp4", request)
    assert not (tmp_path / "out.mp4").exists()
