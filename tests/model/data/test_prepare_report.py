"""The report: everything escaped, every reject listed, nothing fetched, bounded."""

from __future__ import annotations

import base64
import dataclasses
import re
from pathlib import Path

import pytest

from model.data.clip_types import Problem
from model.data.preparing import HistogramSpec, write_report
from model.data.preparing import report as report_module
from model.data.preparing.histogram import Histogram
from model.data.preparing.records import ClipRecord
from model.errors import ConfigError, DataError
from tests.support.clip_analysis import THUMBNAIL
from tests.support.clip_runs import prepare_toy, toy_sources
from tests.support.html_pages import Page

SPECS = (
    HistogramSpec(field="yaw_deg", title="Head yaw <mean>", unit="degrees", low=-30, high=30, bins=12),
    HistogramSpec(field="frames", title="Length", unit="frames", low=0, high=10, bins=5),
)


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    sources = toy_sources(12, {1: "refuse", 4: "refuse", 9: "raise"})
    sources[4] = dataclasses.replace(sources[4], video=Path('<script>alert(1)&".mp4'))
    prepare_toy(tmp_path, sources, data_set="Toy & <b>co</b>")
    return tmp_path


def test_the_page_lists_rejects_and_is_escaped_and_closed(prepared: Path) -> None:
    path = write_report(prepared, SPECS)
    text = path.read_text()
    page = Page(text)
    assert page.open == []
    assert not {"script", "link", "iframe", "b>co"} & set(page.tags)
    assert page.addresses and all(address.startswith("data:image/jpeg;base64,") for address in page.addresses)
    assert "&lt;script&gt;alert(1)&amp;&quot;.mp4: two faces in 12 of 75 frames" in text
    assert "Toy &amp; &lt;b&gt;co&lt;/b&gt;" in text
    for key, problem in (("clip001", "two faces"), ("clip004", "two faces"), ("clip009", "analysis crashed")):
        assert re.search(rf"<tr><td[^>]*>{key}</td><td[^>]*>{problem}</td>", text)
    assert "9</b>used" in text and "3</b>rejected (25.0%)" in text
    assert re.search(r"[\d.]+</b>clips per minute", text)
    assert text.count("base64," + base64.b64encode(THUMBNAIL).decode()) == 9 + 2  # used clips, and refused ones
    assert "http" not in text.replace("http-equiv", "")


def test_it_can_be_made_again_and_without_run_statistics(prepared: Path) -> None:
    first = write_report(prepared, SPECS).read_bytes()
    assert write_report(prepared, SPECS).read_bytes() == first
    (prepared / "run.json").unlink()
    assert "clips per minute" not in write_report(prepared, SPECS).read_text()


def test_long_lists_end_with_how_many_more(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_module, "LISTED_REJECTS", 1)
    monkeypatch.setattr(report_module, "THUMBNAILS", 4)
    monkeypatch.setattr(report_module, "CLIPS_PER_NOTE", 2)
    text = write_report(prepared, SPECS).read_text()
    assert "<p>and 2 more: see the shards" in text and "clip009</td>" not in text
    shown = re.findall(r"<figcaption>(clip\d+)</figcaption>", text)
    assert shown == ["clip000", "clip003", "clip006", "clip008"]  # even over the nine used
    notes = [i for i in range(12) if i not in (1, 4, 9) and sum(f"clip{i:03d}".encode()) % 2]
    assert f"and {len(notes) - 2} more" in text


def test_an_unfinished_folder_has_no_report(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no manifest\.json"):
        write_report(tmp_path, SPECS)


def test_a_damaged_sidecar_is_named(prepared: Path) -> None:
    (prepared / "shard-000001.json").write_text("{")
    with pytest.raises(DataError, match=r"shard-000001\.json is damaged"):
        write_report(prepared, SPECS)


def test_a_histogram_counts_edges_and_what_lies_outside() -> None:
    histogram = Histogram(HistogramSpec(field="x", title="x", unit="", low=0.0, high=4.0, bins=4))
    for value in (0, 0.999, 1.0, 4.0, -0.1, 4.1, 100.0, None, "2", True, float("nan")):
        histogram.add(value)
    assert histogram.counts == [2, 1, 0, 1]
    assert (histogram.below, histogram.above, histogram.without, histogram.number) == (1, 2, 4, 7)
    heights = [float(h) for h in re.findall(r'height="([\d.]+)"><title>', histogram.figure())]
    assert heights[0] == 2 * heights[1] == 2 * heights[3] and heights[2] == 0
    assert "7 clips, mean 15.71, 1 below 0, 2 above 4, 4 without a value" in histogram.figure()


@pytest.mark.parametrize(("low", "high", "bins"), [(1, 1, 4), (2, 1, 4), (0, float("inf"), 4), (0, 1, 0)])
def test_histograms_without_width_are_refused(low: float, high: float, bins: int) -> None:
    with pytest.raises(ConfigError, match="histogram x: need low < high"):
        HistogramSpec(field="x", title="x", unit="", low=low, high=high, bins=bins)


def test_thumbnails_of_used_clips_are_kept_evenly_and_of_rejects_always(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model.data.preparing.run.STORED_THUMBNAILS", 4)
    prepare_toy(tmp_path, toy_sources(12, {1: "refuse"}))
    records = [
        ClipRecord.model_validate(clip)
        for file in sorted(tmp_path.glob("shard-*.json"))
        for clip in report_module.read_record(report_module.ShardRecord, file).model_dump()["clips"]
    ]
    assert [clip.key for clip in records if clip.thumbnail] == ["clip000", "clip001", "clip003", "clip006", "clip009"]
    assert records[1].problem is Problem.TWO_FACES
