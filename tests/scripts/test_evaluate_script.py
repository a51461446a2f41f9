"""`scripts/evaluate.sh` with a stand-in for the command: its steps, their sizes, what an interrupted run does again."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "evaluate.sh"
STAND_IN = """#!/bin/bash
printf '%s\\n' "$*" >>calls
if [ -f fail ] && [[ "$*" == *"$(cat fail)"* ]]; then echo "nothing works" >&2; exit 1; fi
if [ -f hang ] && [[ "$*" == *"$(cat hang)"* ]]; then sleep 60; fi
while [ $# -gt 0 ]; do
    case "$1 ${2:-}" in
        "--out "*avatar) mkdir -p "$2"; : >"$2/avatar.json" ;;
        "--out "*.safetensors) : >"$2" ;;
        "--json "*) : >"$2" ;;
    esac
    shift
done
"""
STEPS = (
    "prepare held-out clips",
    "prepare training clips",
    "prepare other speakers",
    "adapt an avatar",
    "train the 2-D decoder",
    "measure the 2-D decoder",
    "the table",
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A checkout of the script and its stand-in alone, and a folder of data without a clip."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(SCRIPT, tmp_path / "scripts")
    command = tmp_path / ".venv" / "bin" / "nerf-lipsync"
    command.parent.mkdir(parents=True)
    command.write_text(STAND_IN)
    command.chmod(0o755)
    (tmp_path / "data" / "grid_s1" / "train").mkdir(parents=True)
    return tmp_path


def evaluate(tree: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", "NERF_LIPSYNC_DATA": str(tree / "data"), **variables}
    command = [str(tree / "scripts" / "evaluate.sh"), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)


def calls(tree: Path) -> list[str]:
    return (tree / "calls").read_text().splitlines()


def test_every_step_is_timed_and_arguments_reach_the_table(tree: Path) -> None:
    done = evaluate(tree, "--frames", "50")
    assert done.returncode == 0, done.stderr
    lines = [line.split("\t") for line in (tree / "runs/evaluate/steps.tsv").read_text().splitlines()]
    assert [line[0] for line in lines] == list(STEPS)
    for _, wall_s, cpu_s, load in lines:
        assert int(wall_s) >= 0 and int(cpu_s) >= 0 and float(load) >= 0
    assert calls(tree)[-1].startswith("evaluate table") and calls(tree)[-1].endswith("--frames 50")
    assert any("train decoder2d" in call and "--steps 1500" in call for call in calls(tree))
    prepared = [call for call in calls(tree) if call.startswith("prepare")]
    assert len(prepared) == 3 and all("--no-flow" in call for call in prepared)
    assert any("--preset adapt --minutes 30" in call for call in calls(tree))


def test_quick_is_small_and_stays_beside_the_real_run(tree: Path) -> None:
    assert evaluate(tree, EVALUATE_QUICK="1").returncode == 0
    made = "\n".join(calls(tree))
    for size in ("--sample 3 ", "--sample 8 ", "--steps 20 ", "--picture-clips 2 --frames 10"):
        assert size in made
    assert (tree / "runs/evaluate-quick/table1.json").is_file() and not (tree / "runs/evaluate").exists()


def test_a_step_that_fails_ends_the_run_with_its_words_and_the_next_one_goes_on(tree: Path) -> None:
    (tree / "fail").write_text("evaluate decoder2d")
    done = evaluate(tree)
    assert done.returncode != 0 and "nothing works" in done.stderr
    assert not any("--markdown" in call for call in calls(tree))
    (tree / "fail").unlink()
    (tree / "calls").unlink()
    assert evaluate(tree).returncode == 0
    again = "\n".join(calls(tree))
    assert "train decoder2d" not in again and "create" not in again and "evaluate decoder2d" in again


def test_rows_are_made_beside_other_steps_and_their_failure_ends_the_run(tree: Path) -> None:
    """The table itself comes last, from all of them."""
    assert evaluate(tree).returncode == 0
    steps = [line.split("\t")[0] for line in (tree / "runs/evaluate/steps.tsv").read_text().splitlines()]
    assert sorted(steps) == sorted([*STEPS, "rows of motion", "rows of pictures"]) and steps[-1] == "the table"
    tables = [call for call in calls(tree) if call.startswith("evaluate table")]
    assert "--capture" not in tables[0] and "--capture" in tables[1] and "--decoder" not in tables[1]
    assert "--decoder" in tables[2]
    (tree / "fail").write_text("motion.json")
    (tree / "calls").unlink()
    assert evaluate(tree).returncode != 0
    assert not any("--markdown" in call for call in calls(tree))


def test_what_runs_beside_a_step_that_fails_ends_with_it(tree: Path) -> None:
    """A process that was left would hold on to the pipes, for longer than `evaluate` waits."""
    (tree / "hang").write_text("motion.json")
    (tree / "fail").write_text("create")
    done = evaluate(tree)
    assert done.returncode != 0 and "nothing works" in done.stderr


def test_without_a_decoder_it_has_no_rows(tree: Path) -> None:
    assert evaluate(tree, EVALUATE_DECODER="0").returncode == 0
    assert not any("decoder2d" in call or "--decoder" in call for call in calls(tree))


def test_without_data_it_says_what_to_set(tree: Path) -> None:
    done = evaluate(tree, NERF_LIPSYNC_DATA="")
    assert done.returncode != 0 and "NERF_LIPSYNC_DATA" in done.stderr and not (tree / "calls").exists()
