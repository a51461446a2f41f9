"""The big table: rows are kept, differences are paired, verdicts are plain, and the page says what is missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model.errors import DataError, InputError
from model.evaluation.reconstruction import ReconstructionEvaluation
from model.evaluation.row_store import RowArrays, RowPlace, RowStore
from model.evaluation.table_committed import COMMITTED, committed_figures
from model.evaluation.table_evaluation import known_rows
from model.evaluation.table_figures import difference_figures, f1_difference, f1_of, row_slug, set_figures
from model.evaluation.table_motion import CLOSURE_HITS, MOTION_COLUMNS
from model.evaluation.table_page import table_page, verdict
from model.evaluation.table_pictures import (
    DECODER,
    DECODER_ORACLE,
    PICTURE_COLUMNS,
    PICTURE_ROWS,
    PictureBench,
    through_vp8,
)
from model.evaluation.table_rows import CONTROLS, ROW_MEANINGS, SAMPLERS, SERVED, RowMaker
from model.face.landmarks import LandmarkError
from model.radiance.decoder2d import Decoder2d, Decoder2dConfig, save_decoder
from model.results import Figure, new_results, read_results, write_results
from tests.support.made_speech import made_speech

pytestmark = pytest.mark.usefixtures("weights_once")
ROOT = Path(__file__).parents[3]
RNG = np.random.default_rng(0)


def row(error: float, late: float, hits: tuple[int, int, int], clips: int = 20) -> RowArrays:
    return {
        "opening_crps": error + 0.01 * RNG.random(clips),
        "critic_late_frames": np.where(np.arange(clips) % 2, late, -late).astype(np.float64),
        CLOSURE_HITS: np.tile(np.array([hits], np.int64), (clips, 1)),
    }


def test_a_kept_row_is_not_made_again(tmp_path: Path) -> None:
    made: list[str] = []

    def make(name: str) -> RowArrays:
        made.append(name)
        return {"x": np.arange(3.0)}

    store = RowStore(tmp_path, {"clips": ["a"]})
    told: list[str] = []
    names = {"student, 2 steps": "student, 2 steps", "static": "static"}
    first = store.rows(names, make, told.append)
    again = RowPlace(tmp_path).open({"clips": ["a"]}).rows(names, make, told.append)
    assert made == told == ["student, 2 steps", "static"]
    np.testing.assert_array_equal(first["static"]["x"], again["static"]["x"])
    RowStore(tmp_path, {"clips": ["b"]}).rows({"static": "static"}, make)
    assert made[2:] == ["static"]  # other clips: another row


def test_what_is_not_done_is_left_out_when_nothing_may_be_computed(tmp_path: Path) -> None:
    RowStore(tmp_path, {}).row("static", lambda: {"x": np.zeros(1)})
    found = RowPlace(tmp_path, finished_only=True).open({}).rows({"a": "a", "static": "static"}, lambda _: {})
    assert list(found) == ["static"]


def test_only_the_rows_that_were_asked_for_are_made_beside_those_that_are_done(tmp_path: Path) -> None:
    RowStore(tmp_path, {}).row("static", lambda: {"x": np.zeros(1)})
    made: list[str] = []

    def make(name: str) -> RowArrays:
        made.append(name)
        return {"x": np.ones(1)}

    names = {row: row for row in ("static", "retrieval", "oracle motion")}
    found = RowPlace(tmp_path, only=frozenset(["oracle motion"])).open({}).rows(names, make)
    assert (list(found), made) == (["static", "oracle motion"], ["oracle motion"])


def test_a_later_run_takes_its_rows_from_the_results_file(tmp_path: Path) -> None:
    """Packed, written, read and laid out elsewhere they are the same rows of the same recipe; kept ones stay."""
    place, recipe = RowPlace(tmp_path / "here"), {"clips": ("a", "b"), "draws": 4}
    values = {"psnr": np.array([1.25, np.nan]), CLOSURE_HITS: np.array([[1, 0, 2], [3, 1, 0]], np.int64)}
    place.open(recipe).row("static", lambda: values)
    write_results(tmp_path / "r.json", new_results({}, command="c", data="d", details={"rows": place.packed()}))
    there = tmp_path / "there"
    RowPlace(there).open({"clips": ("a",), "draws": 4}).row("static", lambda: {"psnr": np.zeros(1)})
    assert known_rows(read_results(tmp_path / "r.json"), there) == 1
    assert known_rows(read_results(tmp_path / "r.json"), there) == 0
    found = RowPlace(there, finished_only=True).open(recipe).rows({"static": "static"}, lambda _: {})
    for name, wanted in values.items():
        np.testing.assert_array_equal(found["static"][name], wanted)
        assert found["static"][name].dtype == wanted.dtype
    with pytest.raises(DataError, match="hold no rows of a table"):
        known_rows(new_results({}, command="c", data="d"), there)


def test_a_damaged_row_is_named(tmp_path: Path) -> None:
    store = RowStore(tmp_path, {})
    store.row("static", lambda: {"x": np.zeros(1)})
    (file,) = store.folder.glob("*.npz")
    file.write_bytes(b"PK no archive")
    with pytest.raises(DataError, match=r"static.*npz is damaged.*delete it"):
        store.row("static", lambda: {"x": np.zeros(1)})


def test_f1_is_over_all_cases() -> None:
    assert f1_of(np.array([[1, 0, 0], [0, 1, 1]])) == pytest.approx(2 / (2 + 1 + 1))
    assert np.isnan(f1_of(np.array([[0, 0, 3]])))
    ours = np.array([[2, 0, 0]] * 15 + [[1, 1, 1]] * 5)
    other = np.array([[1, 1, 1]] * 15 + [[0, 2, 1]] * 5)
    found = f1_difference(ours, other)
    assert found.mean == pytest.approx(f1_of(ours) - f1_of(other))
    assert 0 < found.low < found.mean < found.high
    same = f1_difference(ours, ours)
    assert (same.mean, same.low, same.high) == (0.0, 0.0, 0.0)


def test_differences_say_ahead_behind_or_neither() -> None:
    rows = {
        SERVED: row(0.02, 0.0, (4, 0, 0)),
        "static": row(0.08, 5.0, (1, 3, 0)),
        "retrieval": row(0.01, 0.0, (4, 0, 0)),
    }
    figures = difference_figures("val", rows, MOTION_COLUMNS, ours=(SERVED,), others=CONTROLS)
    ours = f"difference.val.{row_slug(SERVED)}.minus"
    assert verdict(figures[f"{ours}.static.opening_crps"]) == "ahead"
    assert verdict(figures[f"{ours}.retrieval.opening_crps"]) == "**behind**"
    assert verdict(figures[f"{ours}.retrieval.closure_f1"]) == "no clear difference"
    late = figures[f"{ours}.static.critic_late_frames"]  # early and late clips must not cancel
    assert (late.value, verdict(late)) == (-5.0, "ahead")
    assert not any("energy" in name for name in figures)


def test_the_page_lists_where_ours_is_behind_and_what_is_not_there(tmp_path: Path) -> None:
    rows = {SERVED: row(0.02, 0.0, (4, 0, 0)), "retrieval": row(0.01, 0.0, (4, 0, 0))}
    figures = set_figures("grid_val", rows, MOTION_COLUMNS)
    figures |= difference_figures("grid_val", rows, MOTION_COLUMNS, ours=(SERVED,), others=CONTROLS)
    page = table_page(new_results(figures, command="c", data="two rows"), tmp_path)
    behind = page.split("### Where ours is behind")[1]
    assert f"{SERVED} against retrieval, opening_crps" in behind
    assert "other data and other judges than below" in page
    assert "| VoxCeleb2 | NeRF-LipSync | 2.75 | 0.56 | 18.32 | 3.01 | 9.06 | 5.86 | 4.64 | 4.81 |" in page
    assert "`ablation.json` is not there" in page and "Rendered capture" not in page


def test_the_page_sets_the_decoder_beside_the_field(tmp_path: Path) -> None:
    """The first ablation: both figures in the field's unit, or a line that says what is missing."""
    none = new_results({}, command="c", data="d")
    write_results(tmp_path / "ablation.json", none)
    assert "`decoder2d.json` is not there" in table_page(none, tmp_path)
    figures = {
        f"{who}.turn_head_psnr_15_20deg": Figure(value=value, unit="dB", better="higher")
        for who, value in (("field", 33.5), ("decoder", 28.25))
    }
    write_results(tmp_path / "decoder2d.json", new_results(figures, command="c", data="d"))
    cross = {
        f"capture_cross.{row_slug(row)}.lmd_cross": Figure(value=value, unit="px", better="lower")
        for row, value in ((SERVED, 1.3), (DECODER, 1.5))
    }
    page = table_page(new_results(cross, command="c", data="d"), tmp_path)
    assert "turned by 15 to 20 degrees 33.5 to 28.2 dB; cross-generation, LMD 1.30 to 1.50 px" in page


def test_a_decoder_has_rows_where_its_weights_are_given_and_its_own_name_there(tmp_path: Path) -> None:
    weights = tmp_path / "d.safetensors"
    save_decoder(weights, Decoder2d(Decoder2dConfig(hidden=4, channels=(4, 4))), {})
    config = ReconstructionEvaluation(face_landmarker=tmp_path / "face.task")
    maker = RowMaker(Path("nowhere"), teacher_draws=0)
    without = PictureBench("capture", config, maker)._kept_as(PICTURE_ROWS)
    assert without == {row: row for row in PICTURE_ROWS if "decoder" not in row and "teacher" not in row}
    given = PictureBench("capture", config, maker, weights)._kept_as(PICTURE_ROWS)
    assert set(given) - set(without) == {DECODER, DECODER_ORACLE}
    save_decoder(weights, Decoder2d(Decoder2dConfig(hidden=4, channels=(4, 4))), {})  # trained anew
    assert given[DECODER] != PictureBench("capture", config, maker, weights)._kept_as([DECODER])[DECODER]


def test_a_decoder_whose_pictures_show_no_face_has_an_empty_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trained for a few steps it paints a blur. Of the field's rows a lost face is an error."""
    weights = tmp_path / "d.safetensors"
    save_decoder(weights, Decoder2d(Decoder2dConfig(hidden=4, channels=(4, 4))), {})
    monkeypatch.setattr(RowMaker, "_train_keys", [])
    config = ReconstructionEvaluation(face_landmarker=tmp_path / "face.task")
    bench = PictureBench("capture", config, RowMaker(tmp_path, teacher_draws=0), weights)

    def blind(_: str) -> RowArrays:
        raise LandmarkError("no face found")

    told: list[str] = []
    found = bench._rows(RowPlace(tmp_path / "rows"), [DECODER], "own sound", blind, told.append)
    assert found == {DECODER: {}} and "no face is found" in told[-1]
    again = bench._rows(RowPlace(tmp_path / "rows", finished_only=True), [DECODER], "own sound", blind, told.append)
    assert again == {DECODER: {}} and set_figures("capture", again, PICTURE_COLUMNS) == {}
    with pytest.raises(LandmarkError):
        bench._rows(RowPlace(tmp_path / "rows"), [SERVED], "own sound", blind, told.append)


def test_offsets_and_missing_intervals_are_no_verdict() -> None:
    assert verdict(Figure(value=1.0, unit="dB", better="higher")) == "no clear difference"
    assert verdict(Figure(value=1.0, unit="dB", better="higher", interval=(0.5, 1.5))) == "ahead"
    assert verdict(Figure(value=1.0, unit="px", better="lower", interval=(0.5, 1.5))) == "**behind**"


def test_every_sampler_row_is_described_and_the_teacher_can_be_left_out() -> None:
    assert set(SAMPLERS) <= set(ROW_MEANINGS)
    maker = RowMaker(Path("nowhere"), teacher_draws=0)
    assert set(ROW_MEANINGS) - set(maker.rows) == {row for row in SAMPLERS if row.startswith("teacher")}
    with pytest.raises(InputError, match="two draws or more"):
        RowMaker(Path("nowhere"), draws=1)
    with pytest.raises(InputError, match="no row is called 'oracle'"):
        maker.motion("oracle", [])


def test_rows_follow_the_sound_they_are_given() -> None:
    voice = made_speech(2.0)
    maker = RowMaker(Path("nowhere"), draws=2)
    sounds = maker.hear(["voice", "short"], [voice, voice[:8_000]], [np.zeros((50, 32), np.float32)] * 2)
    served = maker.motion(SERVED, sounds)
    varied = maker.motion("student, 1 step, temperature 1", sounds)
    assert [len(m.draws) for m in (served, varied)] == [1, 2] and varied.samples and not served.samples
    assert all(motion.shape == (50, 32) for draw in (*served.draws, *varied.draws) for motion in draw)
    assert not np.array_equal(varied.draws[0][0], varied.draws[1][0])
    assert np.ptp(served.draws[0][0][:, 0]) > 0  # the mouth moves


def test_vp8_keeps_the_number_of_frames_and_most_of_the_picture() -> None:
    frames = np.zeros((6, 32, 48, 3), np.uint8)
    frames[:, 8:24, 8:24] = (200, 60, 40)
    coded = through_vp8(frames)
    assert coded.shape == frames.shape
    assert 0 < np.abs(coded.astype(int) - frames).mean() < 12


def test_picture_columns_are_those_of_the_issue() -> None:
    names = [metric.name for metric in PICTURE_COLUMNS]
    assert {"psnr_mouth", "ssim_mouth", "lmd_mouth", "identity_cosine", "opening_r"} <= set(names)


def test_full_size_blocks_are_read_from_the_committed_files_and_not_run() -> None:
    figures = committed_figures(ROOT / "benchmarks" / "results")
    lips = read_results(ROOT / "benchmarks" / "results" / "lips_grid.json").figures
    for name in ("closure_f1", "opening_crps", "opening_r"):
        for who in ("served", "retrieval", "static"):
            mine, theirs = figures[f"full_lips.{who}.{name}"], lips[f"grid_val.{who}.{name}"]
            assert mine.value == pytest.approx(theirs.value, rel=1e-4) and mine.goal is None
    found = figures["difference.full_lips.served.minus.static.opening_crps"]
    wanted = lips["grid_val.served.opening_crps"].value - lips["grid_val.static.opening_crps"].value
    assert found.value == pytest.approx(wanted, rel=1e-4, abs=2e-6) and verdict(found) == "ahead"
    assert {one.name for one in COMMITTED} == {key.split(".")[0] for key in figures} - {"difference"}


def test_no_results_files_are_no_blocks(tmp_path: Path) -> None:
    assert committed_figures(tmp_path) == {}


def test_the_committed_page_is_that_of_the_committed_results() -> None:
    """Rewritten by `python scripts/figures_table.py`."""
    folder = ROOT / "benchmarks" / "results"
    page = table_page(read_results(folder / "table1.json"), folder)
    assert (ROOT / "docs" / "table1.md").read_text(encoding="utf-8") == page
