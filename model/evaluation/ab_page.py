"""A blind A/B page for people: two videos side by side, one question, answers as a file to send back.

The page is one folder: `index.html` and `videos/`, whose names say nothing. It works from `file://`, fetches nothing
and sends nothing. Which side is whose stands in a key file beside the folder, not in it, so that the folder can be
handed out whole. The order of pairs and of sides comes from a seed.
"""

from __future__ import annotations

import hashlib
import html
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from model.errors import DataError, InputError
from model.html_page import html_page

__all__ = ["AbPage", "key_path", "write_ab_page"]

SUFFIXES: Final = (".mp4", ".webm")
QUESTION: Final = "In which video does the mouth fit the speech better?"
ID_DIGITS: Final = 12
STYLE: Final = """
.pair { display: flex; gap: 16px; } .pair div { flex: 1; } video { width: 100%; background: #000; border-radius: 6px; }
button, input { font: inherit; padding: 8px 16px; margin: 10px 8px 0 0; } [hidden] { display: none; }
"""
SOURCES: Final = "media-src 'self' file:; script-src 'unsafe-inline'"


@dataclass(frozen=True)
class AbPage:
    """What was written."""

    index: Path
    key: Path
    pairs: int


def key_path(out: Path) -> Path:
    """The key of a page folder: beside it."""
    return out.with_name(out.name + ".key.json")


def write_ab_page(a: Path, b: Path, out: Path, *, seed: int = 0, question: str = QUESTION) -> AbPage:
    """Write the page of all videos that `a` and `b` both have, by file name.

    Raises:
        DataError: A folder is missing, there is no pair, or one folder has a video that the other lacks.
        InputError: `out` or its key exists already.
    """
    names = _shared_names(a, b)
    key_file = key_path(out)
    if out.exists() or key_file.exists():
        raise InputError(f"{out if out.exists() else key_file} exists; give another --out, or remove both")
    rng = np.random.default_rng(seed)
    order = [names[int(i)] for i in rng.permutation(len(names))]
    a_left = rng.random(len(order)) < 0.5
    videos = out / "videos"
    videos.mkdir(parents=True)
    pairs, key = [], []
    for number, (name, left) in enumerate(zip(order, a_left, strict=True), 1):
        sides = (a / name, b / name) if left else (b / name, a / name)
        files = [f"videos/{number:03d}{side}{Path(name).suffix}" for side in "lr"]
        for source, file in zip(sides, files, strict=True):
            shutil.copyfile(source, out / file)
        pairs.append({"pair": number, "left": files[0], "right": files[1]})
        key.append({"pair": number, "clip": name, "left": "A" if left else "B"})
    page_id = hashlib.sha256(json.dumps([key, seed, question]).encode()).hexdigest()[:ID_DIGITS]
    index = out / "index.html"
    index.write_text(_page(page_id, question, pairs), encoding="utf-8")
    about = {"page": page_id, "a": a.name, "b": b.name, "seed": seed, "question": question, "pairs": key}
    key_file.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return AbPage(index, key_file, len(pairs))


def _shared_names(a: Path, b: Path) -> list[str]:
    found = []
    for folder in (a, b):
        if not folder.is_dir():
            raise DataError(f"{folder} is no folder of videos")
        found.append({p.name for p in folder.iterdir() if p.suffix.lower() in SUFFIXES})
    alone = sorted(found[0] ^ found[1])
    if alone:
        lacking = b if alone[0] in found[0] else a
        raise DataError(f"{lacking} has no {alone[0]} ({len(alone)} videos have no partner): pairs share a file name")
    if not found[0]:
        raise DataError(f"no videos in {a}: need {' or '.join(SUFFIXES)} files")
    return sorted(found[0])


def _page(page_id: str, question: str, pairs: list[dict[str, object]]) -> str:
    data = json.dumps({"page": page_id, "pairs": pairs}).replace("<", "\\u003c")
    body = (
        '<section id="start"><p>You will see pairs of videos. Play both to the end, with sound, then choose. '
        "Nothing is sent anywhere: at the end you save a file.</p>"
        '<input id="rater" placeholder="your name or number" aria-label="your name or number">'
        '<button id="begin">Begin</button></section>',
        f'<section id="task" hidden><h2>{html.escape(question)}</h2><p id="progress" class="quiet"></p>',
        '<div class="pair"><div><video id="left" playsinline></video><button id="play-left">Play left</button></div>'
        '<div><video id="right" playsinline></video><button id="play-right">Play right</button></div></div>',
        '<p><button class="choice" data-choice="left">Left</button><button class="choice" data-choice="right">Right'
        '</button><button class="choice" data-choice="same">Cannot tell</button></p></section>',
        '<section id="end" hidden><p>Thank you. Save the file and send it back.</p>'
        '<button id="save">Save answers</button></section>',
        f'<script id="data" type="application/json">{data}</script><script>{SCRIPT}</script>',
    )
    return html_page("Which one?", body, style=STYLE, sources=SOURCES)


SCRIPT: Final = """
"use strict";
const $ = (id) => document.getElementById(id);
const { page, pairs } = JSON.parse($("data").textContent);
const answers = [];
const seen = { left: false, right: false };
let shown = 0;
const choices = [...document.querySelectorAll(".choice")];
const unlock = () => choices.forEach((b) => { b.disabled = !(seen.left && seen.right); });
function show() {
  $("task").hidden = shown >= pairs.length;
  $("end").hidden = shown < pairs.length;
  if (shown >= pairs.length) return;
  $("progress").textContent = `Pair ${shown + 1} of ${pairs.length}`;
  for (const side of ["left", "right"]) { seen[side] = false; $(side).src = pairs[shown][side]; }
  unlock();
}
for (const side of ["left", "right"]) {
  const other = side === "left" ? "right" : "left";
  $(`play-${side}`).onclick = () => { $(other).pause(); $(side).currentTime = 0; $(side).play(); };
  $(side).onended = () => { seen[side] = true; unlock(); };
}
choices.forEach((button) => { button.onclick = () => {
  answers.push({ pair: pairs[shown].pair, choice: button.dataset.choice });
  shown += 1;
  show();
}; });
$("begin").onclick = () => {
  if (!$("rater").value.trim()) { $("rater").focus(); return; }
  $("start").hidden = true;
  show();
};
$("save").onclick = () => {
  const rater = $("rater").value.trim();
  const text = JSON.stringify({ page, rater, answers }, null, 1);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  link.download = `answers-${rater.replace(/[^A-Za-z0-9_-]+/g, "_")}.json`;
  link.click();
};
"""
