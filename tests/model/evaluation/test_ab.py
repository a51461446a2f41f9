"""Blind A/B pages: what they hide, what they hold, and what is made of the answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from model.errors import DataError, InputError
from model.evaluation.ab_page import AbPage, write_ab_page
from model.evaluation.ab_stats import Vote, ab_preference, krippendorff_alpha, read_votes
from model.results import read_results
from stream_server.cli import main
from tests.support.html_pages import Page

CLIPS = tuple(f"clip{i}.mp4" for i in range(8))


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for method in ("ours", "static"):
        (tmp_path / method).mkdir()
        for clip in CLIPS:
            (tmp_path / method / clip).write_bytes(f"{method} {clip}".encode())
    return tmp_path / "ours", tmp_path / "static"


def answers(page: AbPage, path: Path, rater: str, choose: dict[str, str]) -> Path:
    """A file as the page saves it; `choose` gives A, B or same for each clip."""
    key = json.loads(page.key.read_text())
    found = []
    for entry in key["pairs"]:
        choice = choose[entry["clip"]]
        side = "same" if choice == "same" else "left" if entry["left"] == choice else "right"
        found.append({"pair": entry["pair"], "choice": side})
    path.write_text(json.dumps({"page": key["page"], "rater": rater, "answers": found}))
    return path


def test_the_folder_tells_nobody_which_is_which(folders: tuple[Path, Path], tmp_path: Path) -> None:
    page = write_ab_page(*folders, tmp_path / "page", seed=3)
    text = page.index.read_text()
    names = [p.name for p in (tmp_path / "page" / "videos").iterdir()]
    assert len(names) == 16
    assert not any(word in text + "".join(names) for word in ("ours", "static", "clip"))
    assert page.key.parent == tmp_path and "key" not in {p.name for p in (tmp_path / "page").iterdir()}
    parsed = Page(text.replace("<input", "<meta"))
    assert not [a for a in parsed.addresses if a] and "://" not in text


def test_the_key_says_what_lies_on_each_side(folders: tuple[Path, Path], tmp_path: Path) -> None:
    page = write_ab_page(*folders, tmp_path / "page", seed=3)
    key = json.loads(page.key.read_text())
    for entry in key["pairs"]:
        left = (tmp_path / "page" / "videos" / f"{entry['pair']:03d}l.mp4").read_text()
        assert left == f"{'ours' if entry['left'] == 'A' else 'static'} {entry['clip']}"
    assert {e["left"] for e in key["pairs"]} == {"A", "B"}
    assert [e["clip"] for e in key["pairs"]] != sorted(CLIPS)
    again = write_ab_page(*folders, tmp_path / "again", seed=3)
    assert again.index.read_bytes() == page.index.read_bytes()
    other = write_ab_page(*folders, tmp_path / "other", seed=4)
    assert json.loads(other.key.read_text())["pairs"] != key["pairs"]


def test_videos_without_partner_and_pages_that_are_there_are_refused(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    write_ab_page(*folders, tmp_path / "page")
    with pytest.raises(InputError, match="exists"):
        write_ab_page(*folders, tmp_path / "page")
    (folders[1] / CLIPS[2]).unlink()
    with pytest.raises(DataError, match=r"static has no clip2.mp4 \(1 videos"):
        write_ab_page(*folders, tmp_path / "next")
    with pytest.raises(DataError, match="is no folder"):
        write_ab_page(folders[0], tmp_path / "nothing", tmp_path / "next")


def test_answers_become_shares_of_a(folders: tuple[Path, Path], tmp_path: Path) -> None:
    page = write_ab_page(*folders, tmp_path / "page", seed=1)
    likes_a = dict.fromkeys(CLIPS, "A") | {CLIPS[0]: "B", CLIPS[1]: "same"}
    files = [answers(page, tmp_path / f"{who}.json", who, likes_a) for who in ("x", "y")]
    out = tmp_path / "stats.json"
    arguments = ["evaluate", "ab-stats", *map(str, files), "--key", str(page.key), "--json", str(out)]
    assert main(arguments) == 0
    figures = read_results(out).figures
    votes = figures["votes_for_a"]
    assert (votes.value, votes.n, figures["undecided"].value) == (pytest.approx(12 / 14), 14, 2.0)
    assert votes.interval == pytest.approx((0.5719, 0.9822), abs=1e-4)  # Clopper and Pearson for 12 of 14
    assert figures["clips_for_a"].value == pytest.approx(6 / 7)
    assert figures["agreement"].value == pytest.approx(1.0)


def test_answers_that_do_not_fit_are_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    page = write_ab_page(*folders, tmp_path / "page", seed=1)
    other = write_ab_page(*folders, tmp_path / "other", seed=2)
    file = answers(page, tmp_path / "x.json", "x", dict.fromkeys(CLIPS, "A"))
    with pytest.raises(DataError, match="whose key was not given"):
        read_votes([file], [other.key])
    with pytest.raises(DataError, match="answered clip"):
        read_votes([file, file], [page.key])
    damaged = json.loads(file.read_text())
    damaged["answers"][0]["choice"] = "A"
    file.write_text(json.dumps(damaged))
    with pytest.raises(DataError, match=r"one of left, right, same, got \d, 'A'"):
        read_votes([file], [page.key])
    with pytest.raises(DataError, match="no votes"):
        ab_preference([])


def test_alpha_is_krippendorffs() -> None:
    # "Computing Krippendorff's alpha-reliability" (2011), example B: nominal data, two observers, twelve units: 0.692.
    first, second = "aabbdcccedda", "babbbccceddd"
    units = [{a: 2} if a == b else {a: 1, b: 1} for a, b in zip(first, second, strict=True)]
    assert krippendorff_alpha(units) == pytest.approx(0.692, abs=5e-4)
    assert krippendorff_alpha([{"A": 2}, {"A": 3}]) is None
    assert krippendorff_alpha([{"A": 1}, {"B": 1}]) is None
    assert krippendorff_alpha([{"A": 1, "B": 1}, {"A": 1, "B": 1}]) == pytest.approx(-0.5)


def test_raters_who_differ_agree_less() -> None:
    votes = [Vote("x", c, "A") for c in CLIPS] + [Vote("y", c, "A" if i % 2 else "B") for i, c in enumerate(CLIPS)]
    found = ab_preference(votes)
    assert (found.votes.hits, found.votes.cases, found.raters) == (12, 16, 2)
    assert found.clips.cases == 4  # four clips are tied
    assert found.alpha is not None and found.alpha < 0
