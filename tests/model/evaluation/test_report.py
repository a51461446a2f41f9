"""The report: numbers are the JSON's, everything is escaped and closed, best and missed are said in words."""

from __future__ import annotations

import json
import re
from pathlib import Path

import av
import numpy as np
import pytest
from pydantic import ValidationError

from model.errors import InputError, ResultsError
from model.evaluation.report import (
    HistogramPlot,
    Panel,
    ReportTable,
    ScatterPlot,
    curve_plot,
    evaluation_results,
    write_evaluation_report,
    write_side_by_side,
)
from model.evaluation.report.plots import curve_figure, nice_ticks, scatter_figure
from model.evaluation.report.record import read_details
from model.evaluation.tables import Metric, MetricTable
from model.results import Figure, Results, read_results, write_results
from tests.support.html_pages import Page

OPENING = Metric(
    name="lip_opening_r",
    title="Lip opening",
    unit="r",
    better="higher",
    definition="Pearson r of <b>opening</b>.",
    goal=0.75,
)
LMD = Metric(name="lmd", title="LMD", unit="px", better="lower", definition="Mean distance.", goal=1.0)
LAG = Metric(name="lag", title="Lag", unit="frames", better="lower", definition="Best lag.", ideal=0.0)
FID = Metric(name="fid", title="FID", unit="1", better="lower", definition="Frechet distance, pooled.")
CLIPS = ("a<1>", "b", "c", "d")
MADE, ENERGY, TRUTH = "ours & mean", "energy only", "truth"


def toy_table() -> MetricTable:
    def row(opening: list[float], lmd: list[float], lag: list[float]) -> dict[str, np.ndarray]:
        given = {"lip_opening_r": opening, "lmd": lmd, "lag": lag}
        return {name: np.array(values, np.float64) for name, values in given.items()}

    return MetricTable(
        title="GRID <val>",
        clips=CLIPS,
        metrics=(OPENING, LMD, LAG, FID),
        values={
            TRUTH: row([1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]),
            ENERGY: row([0.5, 0.6, 0.4, 0.5], [2, 3, 2, 3], [-1, -2, -1, -1]),
            MADE: row([0.8, 0.9, 0.7, np.nan], [2, 3, 2, 3], [1, 0, 0, 0]),
        },
        pooled={MADE: {"fid": 12.5}},
        reference=ENERGY,
        truth=TRUTH,
        notes=("no <weights> for LPIPS",),
    )


def toy_results(**more: object) -> Results:
    given: dict[str, object] = {
        "curves": [
            curve_plot(
                "Opening of b",
                {"truth": [0.0, 0.1, np.nan, 0.2], "made": np.zeros(4, np.float32)},
                unit="inter-ocular",
                marks=[(0.08, "m")],
            )
        ],
        "histograms": [HistogramPlot(table="val", metric="lag", methods=(MADE,), low=-2.5, high=2.5, bins=5)],
        "scatters": [ScatterPlot(table="val", metric="lip_opening_r", across=ENERGY, up=MADE)],
        "figures": {"speed": Figure(value=1234.5, unit="clips/min", better="higher", spread=10.0)},
        **more,
    }
    table = ReportTable(name="val", table=toy_table(), tested=MADE)
    results = evaluation_results("Toy <evaluation>", [table], command="evaluate toy", data="4 & clips", **given)  # type: ignore[arg-type]
    return results.model_copy(update={"date": "2026-11-25T12:00:00+00:00"})


def written(tmp_path: Path, results: Results) -> str:
    write_results(tmp_path / "toy.json", results)
    return write_evaluation_report(tmp_path / "out", [tmp_path / "toy.json"]).read_text()


def test_every_cell_is_a_figure_with_n_interval_and_goal() -> None:
    figures = toy_results().figures
    opening = figures["val.ours_mean.lip_opening_r"]
    assert opening.value == pytest.approx(0.8) and opening.n == 3 and opening.goal == 0.75 and not opening.missed
    assert opening.interval is not None and opening.interval[0] < 0.8 < opening.interval[1]
    assert opening.spread == pytest.approx((opening.interval[1] - opening.interval[0]) / 2)
    assert figures["val.ours_mean.lmd"].missed
    assert figures["val.energy_only.lmd"].goal is None  # goals are for the row under test
    pooled = figures["val.ours_mean.fid"]
    assert (pooled.value, pooled.n, pooled.interval) == (12.5, 4, None)
    assert "val.energy_only.fid" not in figures  # absent, not zero
    assert len(figures) == 3 * 3 + 1 + 1


def test_differences_are_paired_and_to_the_reference_row(tmp_path: Path) -> None:
    record = read_details(toy_results(), tmp_path)
    assert record is not None
    difference = record.tables[0].row(MADE).differences["lip_opening_r"]
    assert difference.mean == pytest.approx(0.3) and difference.clips == 3  # over clips that both have
    assert (difference.low, difference.high) == pytest.approx((0.3, 0.3))  # though each mean alone is less sure
    assert record.tables[0].row(ENERGY).differences == {}


def test_the_json_holds_everything_the_page_needs(tmp_path: Path) -> None:
    results = toy_results()
    write_results(tmp_path / "toy.json", results)
    assert read_results(tmp_path / "toy.json") == results
    assert read_details(read_results(tmp_path / "toy.json"), tmp_path) == read_details(results, tmp_path)


def test_the_page_is_closed_escaped_and_fetches_nothing(tmp_path: Path) -> None:
    text = written(tmp_path, toy_results())
    page = Page(text)
    assert page.open == []
    assert not {"script", "link", "iframe", "val", "weights", "evaluation"} & set(page.tags)
    for words in ("Toy <evaluation>", "GRID <val>", "no <weights> for LPIPS", "of <b>opening</b>.", "4 & clips"):
        assert words in page.text
    for address in page.addresses:
        assert address == "toy.json" or address.removeprefix("#") in page.places
    assert "http" not in text.replace("http-equiv", "")


def test_every_number_of_the_json_is_on_the_page_and_no_other(tmp_path: Path) -> None:
    results = toy_results()
    shown = Page(written(tmp_path, results)).numbers
    wanted = {figure.value for figure in results.figures.values()}
    wanted |= {edge for figure in results.figures.values() for edge in figure.interval or ()} | {10.0}
    record = read_details(results, tmp_path)
    assert record is not None
    differences = [d for row in record.tables[0].rows for d in row.differences.values()]
    wanted |= {number for d in differences for number in (d.mean, d.low, d.high) if number is not None}
    assert set(shown) == wanted


def test_best_missed_and_absent_are_said_in_words(tmp_path: Path) -> None:
    text = written(tmp_path, toy_results())
    rows = {m[1]: m[2] for m in re.finditer(r'<th scope="row">([^<]*)(.*?)</tr>', text, re.S)}
    cells = {name: re.findall(r"<td.*?</td>", row, re.S) for name, row in rows.items()}
    truth, energy, made = (cells[name] for name in (TRUTH, ENERGY, "ours &amp; mean"))
    assert not any("best" in cell for cell in truth)  # real data is not ranked
    assert "<em>best" in made[0] and "<em>best" not in energy[0]
    assert "<em>best" in made[1] and "<em>best" in energy[1]  # a tie
    assert "<em>best" in made[2]  # nearest to the ideal 0, though −1.25 is lower
    assert "✓ hit: goal ≥ 0.75" in made[0] and "✗ missed: goal ≤ 1" in made[1]
    assert ", better" in made[0] and "no clear difference" in made[1]
    assert "Δ" in made[2] and ", better" in made[2]  # a higher lag, but nearer to 0 clip by clip
    assert "3 of 4 clips" in made[0]
    assert "no such figure" in energy[3] and "best" in made[3]
    assert "no goal" in text  # of `speed`, and of metrics without one
    assert "val.ours_mean.lmd is" in text  # in the list of misses
    assert "<b>1</b>goals hit" in text and "<b>1</b>goals missed" in text


def test_two_runs_give_equal_bytes(tmp_path: Path) -> None:
    first = written(tmp_path, toy_results())
    assert written(tmp_path, toy_results()) == first
    assert re.findall(r"20\d\d-\d\d-\d\d[T ]", first) == ["2026-11-25T"]


def test_plain_results_make_a_page_and_several_share_one(tmp_path: Path) -> None:
    late = Figure(value=2.0, unit="ms", goal=1.0, better="lower")
    plain = toy_results().model_copy(update={"details": None, "figures": {"a<b": late}})
    write_results(tmp_path / "plain.json", plain)
    write_results(tmp_path / "toy.json", toy_results())
    out = tmp_path / "deep" / "out"
    text = write_evaluation_report(out, [tmp_path / "plain.json", tmp_path / "toy.json"], title="Both").read_text()
    page = Page(text)
    assert page.open == [] and "a<b" in page.text
    assert {path.name for path in out.iterdir()} == {"report.html", "plain.json", "toy.json"}
    assert (out / "toy.json").read_bytes() == (tmp_path / "toy.json").read_bytes()
    assert "✗ missed: goal ≤ 1" in text
    write_evaluation_report(out, [out / "plain.json"])  # from the folder itself, over the old page
    assert (out / "plain.json").is_file()


def test_files_of_one_name_and_broken_details_are_refused(tmp_path: Path) -> None:
    write_results(tmp_path / "a" / "r.json", toy_results())
    write_results(tmp_path / "b" / "r.json", toy_results())
    with pytest.raises(InputError, match=r"different names.*r\.json, r\.json"):
        write_evaluation_report(tmp_path / "out", [tmp_path / "a" / "r.json", tmp_path / "b" / "r.json"])
    with pytest.raises(InputError, match="at least one"):
        write_evaluation_report(tmp_path / "out", [])
    file = tmp_path / "a" / "r.json"
    content = json.loads(file.read_text())
    content["details"]["tables"][0]["rows"][0]["values"]["lag"].append(1.0)
    file.write_text(json.dumps(content))
    with pytest.raises(ResultsError, match=r"r\.json: details\.tables\.0: .*5 values of lag for 4 clips"):
        write_evaluation_report(tmp_path / "out", [file])


def test_a_plot_that_the_json_has_no_values_for_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    write_results(file, toy_results())
    content = json.loads(file.read_text())
    content["details"]["scatters"][0]["up"] = "oracle"
    file.write_text(json.dumps(content))
    with pytest.raises(ResultsError, match=r"r\.json: details: table 'val' has no row 'oracle': truth, energy only"):
        write_evaluation_report(tmp_path / "out", [file])


def test_plots_of_cells_that_are_not_there_are_refused() -> None:
    with pytest.raises(InputError, match="no row 'oracle'"):
        toy_results(scatters=[ScatterPlot(table="val", metric="lmd", across="oracle", up=MADE)])
    with pytest.raises(InputError, match="fid has no per-clip values"):
        toy_results(histograms=[HistogramPlot(table="val", metric="fid", methods=(MADE,), low=0, high=1, bins=2)])
    with pytest.raises(ValidationError, match="low < high"):
        HistogramPlot(table="val", metric="lag", methods=(MADE,), low=1, high=1, bins=2)
    with pytest.raises(InputError, match="no table 'test': val"):
        toy_results(scatters=[ScatterPlot(table="test", metric="lmd", across=ENERGY, up=MADE)])
    with pytest.raises(InputError, match=r"stand twice: val\.truth\.lmd"):
        toy_results(figures={"val.truth.lmd": Figure(value=0.0, unit="px", better="lower")})
    with pytest.raises(InputError, match="no row 'none'"):
        ReportTable(name="val", table=toy_table(), tested="none")
    with pytest.raises(InputError, match=r"a-z, 0-9 and _, got 'a\.b'"):
        ReportTable(name="a.b", table=toy_table())
    with pytest.raises(InputError, match=r"plot 't': .*one length"):
        curve_plot("t", {"a": [0.0, 1.0], "b": [0.0]}, unit="")
    with pytest.raises(InputError, match=r"plot 't': .*1 to 5 curves, got 0"):
        curve_plot("t", {}, unit="")
    with pytest.raises(InputError, match=r"curve 'a' needs \(T,\) numbers without infinity"):
        curve_plot("t", {"a": [0.0, np.inf]}, unit="")


def test_curves_break_where_there_is_no_value_and_keep_proportions() -> None:
    drawn = curve_figure(curve_plot("t", {"a": [0.0, 1.0, np.nan, 0.5, 1.0]}, unit="u", rate_hz=1.0))
    path = re.search(r' d="(M[^"]*)"><title>', drawn)
    assert path is not None and path[1].count("M") == 2 and path[1].count("L") == 2
    points = [(float(x), float(y)) for x, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", path[1])]
    assert points[1][1] == points[3][1] < points[2][1] < points[0][1]  # the picture's y goes down
    assert points[1][0] - points[0][0] == pytest.approx((points[2][0] - points[1][0]) / 2, abs=0.11)


def test_a_scatter_leaves_out_clips_without_a_value_and_counts_the_winners(tmp_path: Path) -> None:
    record = read_details(toy_results(), tmp_path)
    assert record is not None
    drawn = scatter_figure(record.scatters[0], record)
    assert drawn.count("<circle") == 3 and "a&lt;1&gt;: 0.5, 0.8" in drawn
    assert "3 clips, 3 above the line of equality; ↑ higher is better" in drawn


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (-0.3, 0.9, [-0.5, 0, 0.5, 1]),
        (0, 7, [0, 2, 4, 6, 8]),
        (2, 2, [1.4, 1.6, 1.8, 2, 2.2, 2.4, 2.6]),
    ],
)
def test_ticks_are_round_and_cover(low: float, high: float, wanted: list[float]) -> None:
    assert nice_ticks(low, high, 5) == pytest.approx(wanted)


def frames(count: int, level: int, width: int = 65) -> list[np.ndarray]:
    return [np.full((48, width, 3), level, np.uint8) for _ in range(count)]


def panels(count: int = 5) -> list[Panel]:
    return [
        Panel(label="truth", origin="filmed", frames=frames(count, 60)),
        Panel(label="NeRF-LipSync", origin="synthetic", frames=frames(count, 200)),
    ]


def test_a_video_stands_side_by_side_with_sound_and_says_what_is_synthetic(tmp_path: Path) -> None:
    sound = np.sin(np.arange(16_000, dtype=np.float32) / 8).astype(np.float32)
    video = write_side_by_side(tmp_path / "toy.json", "clip-b", panels(), caption="b <spoken>", sound=sound)
    with av.open(str(tmp_path / video.file)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.width, stream.height) == ("h264", video.width_px, video.height_px)
        assert "NeRF-LipSync: synthetic" in container.metadata["comment"]
        assert container.streams.audio[0].codec_context.name == "aac"
        assert float(container.duration) / 1e6 < 0.35  # the sound ends with the five pictures
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(pictures) == 5 and video.width_px == 130
    below = pictures[0][50:90].mean((0, 2))
    assert abs(below[:60] - 60).max() < 6 and abs(below[70:] - 200).max() < 6
    assert pictures[0][:40].max() > 150  # the caption is in the pixels
    text = written(tmp_path, toy_results(videos=[video]))
    page = Page(text)
    assert page.open == [] and "toy-videos/clip-b.mp4" in page.addresses
    assert "b <spoken>" in page.text and "truth (filmed), NeRF-LipSync (synthetic)" in page.text
    assert (tmp_path / "out" / video.file).read_bytes() == (tmp_path / video.file).read_bytes()
    (tmp_path / video.file).unlink()
    with pytest.raises(InputError, match=r"names the video toy-videos/clip-b\.mp4, which is not beside it"):
        write_evaluation_report(tmp_path / "out", [tmp_path / "toy.json"])


def test_equal_pictures_give_an_equal_file(tmp_path: Path) -> None:
    first, second = (
        write_side_by_side(tmp_path / f"{name}.json", "v", panels(), caption="c", sound=np.zeros(9_000, np.float32))
        for name in ("one", "two")
    )
    assert (tmp_path / first.file).read_bytes() == (tmp_path / second.file).read_bytes()


def test_videos_that_cannot_be_made_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    def refuse(match: str, made: list[Panel], name: str = "v", rate_hz: int = 16_000) -> None:
        with pytest.raises(InputError, match=match):
            write_side_by_side(tmp_path / "r.json", name, made, caption="", rate_hz=rate_hz)

    odd = Panel(label="odd", origin="filmed", frames=frames(5, 0, width=64))
    refuse("one size", [*panels(), odd])
    refuse("equally many frames: short ended early", [*panels(), Panel(label="short", origin="filmed", frames=[])])
    refuse("at least one frame", [Panel(label="none", origin="filmed", frames=[])])
    refuse("use ASCII", [Panel(label="Müller", origin="filmed", frames=frames(1, 0))])
    refuse("no panels", [])
    refuse("letters, digits", panels(), name="../v")
    refuse("AAC has no 15000 Hz", panels(), rate_hz=15_000)
    assert list((tmp_path / "r-videos").iterdir()) == []


def test_a_video_may_not_lie_elsewhere(tmp_path: Path) -> None:
    video = write_side_by_side(tmp_path / "toy.json", "v", panels(1), caption="")
    for place in ("/tmp/v.mp4", "../v.mp4", "a/./v.mp4", "v.html", "a\\v.mp4"):
        with pytest.raises(ValidationError, match="relative path"):
            type(video).model_validate({**video.model_dump(), "file": place})
