"""`train all` on the command line: what it refuses in one line, and how often it speaks."""

from __future__ import annotations

from pathlib import Path

import pytest

from stream_server.cli import main
from stream_server.commands import train_all
from stream_server.commands.progress import LINE_EVERY_S


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--preset", "huge"], "there is no preset 'huge': choose one of lite, ablation, paper, smoke"),
        (["--preset", "smoke", "--offline", "--face-landmarker", "none.task"], "no such file: none.task"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "all", "--data", str(tmp_path), "--out", str(tmp_path / "out"), *options]) == 2
    refusal = capsys.readouterr().err.splitlines()[-1]
    assert refusal.startswith("nerf-lipsync: ") and message in refusal
    assert not (tmp_path / "out").exists()


def test_a_line_every_half_minute_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr(train_all.time, "monotonic", lambda: now_s)
    said: list[str] = []
    tick = train_all._now_and_then(said.append)
    for second in range(int(2 * LINE_EVERY_S) + 1):
        now_s = 100.0 + second
        tick(f"{second} s")
    assert said == [f"{LINE_EVERY_S:.0f} s", f"{2 * LINE_EVERY_S:.0f} s"]
