"""Who is adapted to what, means over people; and, nightly, both corpus layouts end to end from two real clips."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from model.data.clip_types import ClipSource
from model.errors import DataError, InputError
from model.evaluation.identities import identity_figures, plan_lrw, plan_voxceleb2, scores_of
from model.evaluation.protocols import RECONSTRUCTION_METRICS
from model.evaluation.tables import MetricTable
from model.results import read_results
from stream_server.cli import main

METRICS = {metric.name: metric for metric in RECONSTRUCTION_METRICS}
BASIS = ("--consent-by", "GRID corpus", "--consent-date", "2006-11-01", "--consent-statement", "CC BY 4.0")


def clip(speaker: str, number: int) -> ClipSource:
    return ClipSource(key=f"{speaker}_{number}", video=Path(f"{speaker}/{number}.mp4"), speaker=speaker)


def test_tested_clips_are_never_adapted_to() -> None:
    clips = [clip(who, n) for who in ("id1", "id2", "id3") for n in range(4 if who != "id3" else 1)]
    tested = [clip("id1", 1), clip("id2", 0), clip("id2", 3), clip("id3", 0)]
    plan, alone = plan_voxceleb2(clips, tested, most_adapt=2)
    assert [(one.name, [c.key for c in one.adapt], [c.key for c in one.test]) for one in plan] == [
        ("id1", ["id1_0", "id1_2"], ["id1_1"]),
        ("id2", ["id2_1", "id2_2"], ["id2_0", "id2_3"]),
    ]
    assert alone == ["id3"]
    with pytest.raises(DataError, match="none of 1 speakers"):
        plan_voxceleb2(clips, [clip("id3", 0)])
    with pytest.raises(InputError, match="at most 0"):
        plan_voxceleb2(clips, tested, most_adapt=0)


def test_lrw_clips_stand_for_themselves() -> None:
    (one,) = plan_lrw([clip("", 7)])
    assert one.adapt == one.test == (clip("", 7),)


def test_people_count_once_however_many_clips_they_have() -> None:
    def kept(*psnr: float) -> dict[str, np.ndarray[Any, Any]]:
        names = tuple(str(i) for i in range(len(psnr)))
        values = {"served": {"psnr_mouth": np.array(psnr)}}
        return scores_of(MetricTable(title="t", clips=names, metrics=(METRICS["psnr_mouth"],), values=values))

    figures = identity_figures("voxceleb2", {"a": kept(20.0, 22.0, 24.0), "b": kept(30.0, float("nan"))}, METRICS)
    found = figures["voxceleb2.served.psnr_mouth"]
    assert (found.value, found.n, found.unit) == (pytest.approx(26.0), 2, "dB")
    with pytest.raises(DataError, match="no identity"):
        identity_figures("lrw", {}, METRICS)


def cut(source: Path, out: Path, first: int, count: int) -> Path:
    """`count` frames of a clip with their sound, from frame `first` on, H.264 and AAC."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(source)) as inside:
        frames = [f.to_ndarray(format="rgb24") for f in inside.decode(video=0)][first : first + count]
        inside.seek(0)
        rate = inside.streams.audio[0].rate
        sound = np.concatenate([f.to_ndarray() for f in inside.decode(audio=0)], 1)[:1]
    sound = np.ascontiguousarray(sound[:, first * rate // 25 : (first + count) * rate // 25], np.float32)
    with av.open(str(out), "w") as container:
        video: Any = container.add_stream("libx264", rate=25, options={"crf": "12"})
        video.height, video.width, video.pix_fmt = frames[0].shape[0], frames[0].shape[1], "yuv420p"
        audio: Any = container.add_stream("aac", rate=rate, layout="mono")
        for frame in frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(video.encode(None))
        for start in range(0, sound.shape[1], 1024):
            piece = av.AudioFrame.from_ndarray(sound[:, start : start + 1024], format="fltp", layout="mono")
            piece.sample_rate, piece.pts = rate, start
            container.mux(audio.encode(piece))
        container.mux(audio.encode(None))
    return out


def run(layout: str, source: Path, listed: str, tmp_path: Path, data_folder: Path) -> dict[str, float]:
    (tmp_path / "list.txt").write_text(listed + "\n")
    out = tmp_path / "out.json"
    arguments = ["evaluate", "identities", str(source), "--layout", layout, "--work", str(tmp_path / "work"), *BASIS]
    arguments += ["--list", str(tmp_path / "list.txt"), "--minutes", "0.02", "--frames", "12", "--json", str(out)]
    arguments += ["--face-landmarker", str(data_folder / "weights" / "face_landmarker.task")]
    assert main(arguments) == 0
    return {name: figure.value for name, figure in read_results(out).figures.items()}


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_voxceleb2_layout_end_to_end(data_folder: Path, tmp_path: Path) -> None:
    grid = sorted((data_folder / "grid_s1" / "val").glob("*.mp4"))
    for number, source in enumerate(grid[:2], 1):
        cut(source, tmp_path / "vox" / "test" / "mp4" / "id00012" / "abcdefghijk" / f"{number:05d}.mp4", 10, 40)
    figures = run("voxceleb2", tmp_path / "vox", "id00012/abcdefghijk/00002", tmp_path, data_folder)
    assert figures["voxceleb2.truth_h_264.psnr_face"] > 25.0 > figures["voxceleb2.true_motion.psnr_face"] > 12.0
    assert run("voxceleb2", tmp_path / "vox", "id00012/abcdefghijk/00002", tmp_path, data_folder) == figures


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_lrw_layout_end_to_end(data_folder: Path, tmp_path: Path) -> None:
    source = sorted((data_folder / "grid_s1" / "val").glob("*.mp4"))[0]
    clip_file = cut(source, tmp_path / "lrw" / "ABOUT" / "test" / "ABOUT_00001.mp4", 20, 29)
    clip_file.with_suffix(".txt").write_text("Duration: 0.53 seconds\n")
    figures = run("lrw", tmp_path / "lrw", "ABOUT/test/ABOUT_00001", tmp_path, data_folder)
    assert figures["lrw.truth_h_264.psnr_face"] > 25.0 > figures["lrw.true_motion.psnr_face"] > 12.0
