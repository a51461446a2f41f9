"""SyncNet's layout, front ends and crops, with random weights in the published file's names and shapes."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from model.data.video import read_video
from model.errors import InputError
from model.evaluation.mfcc import mfcc
from model.evaluation.sync_protocol import sync_of_clip
from model.evaluation.syncnet import SyncNet, SyncNetPair, load_syncnet
from model.evaluation.syncnet_video import crop_faces
from model.results import read_results
from stream_server.cli import main
from tests.support.closeness import assert_close
from tests.support.video_files import Sound, even_times, write_video

PUBLISHED = {  # a few of syncnet_v2.model's tensors
    "netcnnaud.0.weight": (64, 1, 3, 3),
    "netcnnaud.4.weight": (192, 64, 3, 3),
    "netcnnaud.18.weight": (512, 256, 5, 4),
    "netcnnaud.19.running_var": (512,),
    "netfcaud.3.weight": (1024, 512),
    "netfclip.0.bias": (512,),
    "netcnnlip.0.weight": (96, 3, 5, 7, 7),
    "netcnnlip.4.weight": (256, 96, 1, 5, 5),
    "netcnnlip.18.weight": (512, 256, 1, 6, 6),
}


@pytest.fixture(scope="module")
def pair() -> SyncNetPair:
    torch.manual_seed(0)
    return SyncNetPair(SyncNet())


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory, pair: SyncNetPair) -> Path:
    path = tmp_path_factory.mktemp("syncnet") / "syncnet_v2.model"
    old = {k: v for k, v in pair.net.state_dict().items() if not k.endswith("num_batches_tracked")}
    torch.save(old, path, _use_new_zipfile_serialization=False)  # as PyTorch 0.4 wrote it
    return path


def pictures(count: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, 224, 224, 3), dtype=np.uint8)


def test_the_layout_is_the_published_one() -> None:
    state = SyncNet().state_dict()
    assert {name: tuple(state[name].shape) for name in PUBLISHED} == PUBLISHED
    assert {name.split(".")[0] for name in state} == {"netcnnaud", "netfcaud", "netfclip", "netcnnlip"}


def test_the_file_loads_and_its_weights_are_used(weights: Path, pair: SyncNetPair) -> None:
    loaded = load_syncnet(weights)
    audio = np.random.default_rng(0).normal(0, 3000, 6400).astype(np.int16)
    assert_close(loaded.hear(audio, 3), pair.hear(audio, 3))
    assert not loaded.net.training


def test_windows_share_a_pass_and_equal_those_seen_alone(pair: SyncNetPair) -> None:
    frames = pictures(6)
    together = pair.see(frames, 2)
    assert together.shape == (2, 1024)
    with torch.inference_mode():
        alone = pair.net.netcnnlip(torch.from_numpy(frames[1:6]).float().permute(3, 0, 1, 2)[None]).flatten(1)
        assert_close(together[1], pair.net.netfclip(alone)[0].numpy())


def test_sound_windows_start_at_frames_and_hold_20_columns(pair: SyncNetPair) -> None:
    audio = np.random.default_rng(0).normal(0, 3000, 9 * 640).astype(np.int16)
    heard = pair.hear(audio, 4)
    columns = torch.from_numpy(mfcc(audio)[8:28].T[None, None].astype(np.float32))
    with torch.inference_mode():
        assert_close(heard[2], pair.net.hear(columns)[0].numpy())


def test_a_clip_goes_through_the_protocol(pair: SyncNetPair) -> None:
    audio = np.random.default_rng(0).normal(0, 3000, 7 * 640).astype(np.int16)
    scores = sync_of_clip(pair, pictures(7), 7, audio)
    assert np.isfinite(scores.mean_distances).all() and scores.distance > 0


@pytest.mark.parametrize(
    ("frames", "windows", "message"),
    [
        (np.zeros((5, 96, 96, 3), np.uint8), 1, r"\(T, 224, 224, 3\) uint8 in BGR, got \(5, 96, 96, 3\)"),
        (np.zeros((5, 224, 224, 3), np.float32), 1, "float32"),
        (np.zeros((5, 224, 224, 3), np.uint8), 2, "2 windows need 6 pictures, got 5"),
    ],
)
def test_other_pictures_are_refused(pair: SyncNetPair, frames: np.ndarray, windows: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        pair.see(frames, windows)


def test_a_missing_file_says_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no SyncNet weights at .*: get syncnet_v2.model from http"):
        load_syncnet(tmp_path / "syncnet_v2.model")


def test_other_files_are_refused_in_one_line(tmp_path: Path, weights: Path) -> None:
    state: dict[str, Tensor] = torch.load(weights, weights_only=True)
    cases: dict[str, object] = {
        "it lacks netfcaud.3.bias": {k: v for k, v in state.items() if k != "netfcaud.3.bias"},
        r"netfcaud.3.bias is \(256,\), not \(1024,\)": {**state, "netfcaud.3.bias": torch.zeros(256)},
        "holds no SyncNet state dict": [torch.zeros(1)],
        "is no SyncNet state dict": SyncNetPair,  # pickled code
    }
    path = tmp_path / "other.model"
    for message, content in cases.items():
        torch.save(content, path)
        with pytest.raises(InputError, match=message) as caught:
            load_syncnet(path)
        assert "\n" not in str(caught.value)


def test_crops_lie_where_the_published_pipeline_puts_them() -> None:
    frame = np.zeros((100, 100, 3), np.uint8)
    frame[40:60, 40:60] = 200  # half side 10: rows 40..68, columns 36..64 of the picture
    boxes = np.tile(np.array([40.0, 40.0, 60.0, 60.0]), (27, 1))
    boxes[13] += 30  # one jump of the detector: the median takes it out
    crop = crop_faces([frame] * 27, boxes)
    assert crop.shape == (27, 224, 224, 3) and crop.dtype == np.uint8
    white = crop[13, :, :, 0] > 100
    assert white[:, 112].sum() == pytest.approx(224 * 20 / 28, abs=1)
    assert white[0, 112] and not white[-1, 112]
    assert white[60].sum() == pytest.approx(224 * 20 / 28, abs=1) and white[60, 112]
    corner = crop_faces([frame] * 27, np.tile(np.array([-8.0, -8.0, 12.0, 12.0]), (27, 1)))
    assert (corner[13, :60, :90] == 110).all() and (corner[13, 70:, 100:] != 110).any()  # grey beyond the picture


@pytest.mark.parametrize(
    ("count", "boxes", "message"),
    [
        (13, np.ones((13, 3)), r"boxes are \(T, 4\), T at least 13 to be filtered, got \(13, 3\)"),
        (5, np.tile([0.0, 0, 9, 9], (5, 1)), r"got \(5, 4\)"),
        (13, np.ones((13, 4)), "right > left and bottom > top, box 0"),
        (13, np.tile([20.0, 20, 40, 40], (13, 1)), r"frame 0 has its centre \(30, 30\) outside"),
        (12, np.tile([0.0, 0, 9, 9], (13, 1)), "12 pictures and 13 boxes"),
        (14, np.tile([0.0, 0, 9, 9], (13, 1)), "need 13 pictures"),
    ],
)
def test_boxes_that_are_none_are_refused(count: int, boxes: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        crop_faces([np.zeros((20, 20, 3), np.uint8)] * count, boxes)


def test_a_video_file_is_scored_by_the_command(tmp_path: Path, weights: Path) -> None:
    video = tmp_path / "talk.mp4"
    write_video(video, even_times(26, 25), sound=Sound(duration_s=1.04, clicks_s=(0.2, 0.5, 0.9)))
    out = tmp_path / "scores.json"
    options = ["--weights", str(weights), "--crop", "whole", "--json", str(out)]
    assert main(["evaluate", "syncnet", "--video", str(video), *options]) == 0
    figures = read_results(out).figures
    assert set(figures) == {f"syncnet.video.{name}" for name in ("sync_d", "sync_c", "sync_offset_frames")}
    clip = read_video(video)
    seen = np.stack([cv2.resize(np.ascontiguousarray(f[..., ::-1]), (224, 224)) for f in clip.frames()])
    wanted = sync_of_clip(load_syncnet(weights), seen, clip.frame_count, clip.audio)
    assert figures["syncnet.video.sync_d"].value == pytest.approx(wanted.distance)
    assert figures["syncnet.video.sync_offset_frames"].value == wanted.offset_frames
