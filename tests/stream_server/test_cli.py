"""Exit codes and messages of the command line, and that it stays light."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rich.markup
import typer

from model.errors import InputError
from model.results import Figure, new_results, write_results
from stream_server import cli
from stream_server.config import ServerConfig


def write_some_results(folder: Path, *, value: float) -> None:
    figure = Figure(value=value, unit="fps", goal=25.0, better="higher", spread=1.0)
    write_results(folder / "first.json", new_results({"sustained_fps": figure}, command="bench", data="none"))


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    for name in ("serve", "render", "prepare", "train", "evaluate", "bench", "results", "avatars", "doctor"):
        assert f" {name} " in out


def test_help_shows_every_bracket() -> None:
    """Help is rich markup, which takes `[word` for a style and leaves it out."""

    def helps(command: Any) -> Iterator[str]:
        yield command.help or ""
        yield from (getattr(parameter, "help", None) or "" for parameter in command.params)
        for inner in getattr(command, "commands", {}).values():
            yield from helps(inner)

    for text in helps(typer.main.get_command(cli.build_app())):
        assert rich.markup.render(text).plain == text.replace("\\[", "[")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("nerf-lipsync ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["bogus"],
        ["serve", "--port", "many"],
        ["serve", "--size", "7"],
        ["serve", "--isa", "sse9"],
        ["serve", "--piper-model", "no-such.onnx"],
        ["results", "no-such-folder"],
        ["doctor", "x"],
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err
    assert captured.out == ""


def test_a_library_error_is_one_line_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise InputError("clip.wav: holds\nno audio")

    app = typer.Typer()
    app.command()(fail)
    monkeypatch.setattr(cli, "build_app", lambda: app)
    assert cli.main([]) == 2
    assert capsys.readouterr().err == "nerf-lipsync: clip.wav: holds no audio\n"


def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    app = typer.Typer()
    app.command()(fail)
    monkeypatch.setattr(cli, "build_app", lambda: app)
    with pytest.raises(ZeroDivisionError):
        cli.main([])


def test_serve_takes_keys_and_lists_from_where_render_does(monkeypatch: pytest.MonkeyPatch) -> None:
    configs: list[ServerConfig] = []
    monkeypatch.setattr("stream_server.serve.run_server", lambda config: configs.append(config) or 0)
    monkeypatch.setenv("NERF_LIPSYNC_REVOKED", "revoked.json")
    monkeypatch.setenv("NERF_LIPSYNC_MARK_KEY", "mark.key")
    assert cli.main(["serve", "--pipeline", "a:b"]) == 0
    assert (configs[0].revoked, configs[0].mark_key) == ("revoked.json", "mark.key")


def test_results_marks_misses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_some_results(tmp_path, value=24.0)
    assert cli.main(["results", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "MISS" in out
    assert "24 ± 1 fps" in out
    assert "1 figures in 1 files, 1 missed" in out
    assert cli.main(["results", "--check", str(tmp_path)]) == 1
    write_some_results(tmp_path, value=26.0)
    assert cli.main(["results", "--check", str(tmp_path)]) == 0
    assert "MISS" not in capsys.readouterr().out.splitlines()[-1]


def test_results_names_a_damaged_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "odd.json").write_text("{}")
    assert cli.main(["results", str(tmp_path)]) == 2
    assert "odd.json: figures: Field required" in capsys.readouterr().err


def test_avatars(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, about in (("ann", {"licence": "CC0", "consent": {"by": "Ann"}}), ("bob", {"licence": "MIT"})):
        (tmp_path / name).mkdir()
        (tmp_path / name / "avatar.json").write_text(json.dumps(about))
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "avatar.json").write_text("{")
    assert cli.main(["avatars", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("ann" in line and "CC0" in line and "by: Ann" in line for line in lines)
    assert any("bob" in line and "refuse" in line for line in lines)
    assert any("cut" in line and "cannot be read" in line for line in lines)
    expired = {"licence": "CC0 [as is]", "consent": {"expires": "2020-01-01"}}
    (tmp_path / "ann" / "avatar.json").write_text(json.dumps(expired))
    assert cli.main(["avatars", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(
        "ann" in line and "CC0 [as is]" in line and "expired: the server will refuse it" in line for line in lines
    )
    assert cli.main(["avatars", str(tmp_path / "none")]) == 2
    assert "no such folder" in capsys.readouterr().err


def test_the_command_line_does_not_load_the_models() -> None:
    code = (
        "import sys; from stream_server.cli import main; main(['results', 'no-such-folder']);"
        "sys.exit(', '.join(sorted({'torch', 'cv2', 'mediapipe', 'whisper', 'aiortc'} & set(sys.modules))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == "nerf-lipsync: no such folder of results: no-such-folder\n\n"
