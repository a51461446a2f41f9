"""A rater before the A/B page in a headless Chromium: both videos must be played, and the saved file can be counted."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from model.evaluation.ab_page import write_ab_page
from model.evaluation.ab_stats import read_votes
from tests.browser.chromium import Chromium
from tests.browser.harness import microphone_wav
from tests.support.chromium import find_chromium
from tests.support.video_files import even_times, write_video

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

CLIPS = ("one.mp4", "two.mp4", "three.mp4")


def test_a_rater_plays_chooses_and_saves(tmp_path: Path) -> None:
    path = find_chromium()
    if path is None:
        pytest.skip("no Chromium is installed")
    for method in ("a", "b"):
        (tmp_path / method).mkdir()
        for clip in CLIPS:
            write_video(tmp_path / method / clip, even_times(5, 25))
    page = write_ab_page(tmp_path / "a", tmp_path / "b", tmp_path / "page", seed=2)
    saved = tmp_path / "saved"
    saved.mkdir()
    with Chromium(path, microphone_wav(tmp_path / "microphone.wav")) as browser:
        browser.call("Network.enable")
        browser.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(saved))
        browser.open(page.index.as_uri())
        browser.evaluate("document.getElementById('begin').click()")
        assert browser.evaluate("document.getElementById('task').hidden")  # no name, no beginning
        browser.evaluate("document.getElementById('rater').value = 'rater 7'; document.getElementById('begin').click()")
        for number, choice in enumerate(("left", "right", "same"), 1):
            assert f"Pair {number} of 3" in browser.evaluate("document.getElementById('progress').textContent")
            button = f"document.querySelector('[data-choice={choice}]')"
            browser.evaluate("document.getElementById('play-left').click()")
            browser.wait_for("document.getElementById('left').ended")
            assert browser.evaluate(f"{button}.disabled")  # the right one was not seen yet
            browser.evaluate("document.getElementById('play-right').click()")
            browser.wait_for(f"!{button}.disabled")
            browser.evaluate(f"{button}.click()")
        browser.wait_for("!document.getElementById('end').hidden")
        browser.evaluate("document.getElementById('save').click()")
        file = _written(saved / "answers-rater_7.json")
        assert browser.console == []
    assert [entry["choice"] for entry in json.loads(file.read_text())["answers"]] == ["left", "right", "same"]
    key = json.loads(page.key.read_text())["pairs"]
    votes = {vote.clip: vote.choice for vote in read_votes([file], [page.key])}
    assert votes[key[0]["clip"]] == key[0]["left"]
    assert votes[key[1]["clip"]] == {"A": "B", "B": "A"}[key[1]["left"]]
    assert votes[key[2]["clip"]] == "same"


def _written(path: Path, timeout_s: float = 20.0) -> Path:
    """Wait for the browser to have written a file."""
    deadline = time.monotonic() + timeout_s
    while not path.is_file():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{path.name} was not saved within {timeout_s} s: {list(path.parent.iterdir())}")
        time.sleep(0.05)
    return path
