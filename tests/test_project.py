"""What the project's own files must agree on."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.lower().replace("_", "-").split("==") for line in lines if "==" in line)


def test_exact_requirements_agree_with_the_tested_set() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(r for extra in project["optional-dependencies"].values() for r in extra)]
    exact = [re.match(r"([\w-]+)==([\w.]+)", requirement) for requirement in wanted]
    found = {match[1]: match[2] for match in exact if match}
    assert len(found) >= 6
    assert found == {name: pins()[name] for name in found}


def test_torch_comes_first_and_nothing_names_a_place() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert next(line for line in lines if not line.startswith("#")) == f"torch=={pins()['torch']}"
    assert not [line for line in lines if "://" in line or " @ " in line or line.startswith("-")]


def test_the_version_is_a_calendar_version() -> None:
    """Below 2026, `transformers` would take our `kernels` for the public package of that name."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert int(version.split(".")[0]) >= 2026


def test_no_package_under_tests_shadows_ours() -> None:
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_large_files_are_refused(tmp_path: Path) -> None:
    def check(size_bytes: int) -> int:
        file = tmp_path / "weights.bin"
        file.write_bytes(b"\0" * size_bytes)
        script = ROOT / "scripts" / "check_file_sizes.py"
        return subprocess.run([sys.executable, script, file], capture_output=True, check=False).returncode

    assert check(15_000_000) == 0
    assert check(16_000_000) == 1


@pytest.mark.parametrize(
    "script",
    [
        *(f"scripts/{name}.sh" for name in ("bootstrap", "fresh", "fresh_inside", "lint_deploy", "sbom", "test")),
        ".ci/run",
    ],
)
def test_scripts_parse(script: str) -> None:
    done = subprocess.run(["bash", "-n", ROOT / script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("codes", "wanted"),
    [((0, 0), 0), ((1, 0), 1), ((0, 1), 1), ((5, 0), 0), ((0, 5), 0), ((5, 5), 5), ((5, 2), 1)],
    ids=str,
)
def test_both_runs_of_the_tests_count(tmp_path: Path, codes: tuple[int, int], wanted: int) -> None:
    """Exit code 5, no test chosen, is a failure only where it is both runs'."""
    calls, code = run_tests(tmp_path, codes, "-k", "nobody")
    assert code == wanted
    computing, timed = calls
    assert computing[2:5] == ["--timed", "without", "--numprocesses"] and timed[2:4] == ["--timed", "only"]
    assert computing[-2:] == timed[-2:] == ["-k", "nobody"]
    assert timed[4:-2] == ["tests/stream_server", "tests/browser", "tests/deploy"]


def test_a_named_test_runs_by_itself(tmp_path: Path) -> None:
    calls, code = run_tests(tmp_path, (3,), "-x", "tests/test_docs.py::test_one")
    assert calls == [["-m", "pytest", "-x", "tests/test_docs.py::test_one"]]
    assert code == 3


def run_tests(folder: Path, codes: tuple[int, ...], *options: str) -> tuple[list[list[str]], int]:
    """What scripts/test.sh would run if pytest ended with these codes, one after another; and its own code."""
    (folder / "bin").mkdir()
    (folder / "codes").write_text("".join(f"{code}\n" for code in codes))
    python = folder / "bin" / "python"
    python.write_text(
        f"#!/bin/sh\ncd {folder}\nprintf '%s ' \"$@\" >> calls; echo >> calls\n"
        "code=$(head -n 1 codes); sed -i 1d codes; exit $code\n"
    )
    python.chmod(0o755)
    environment = os.environ | {"NERF_LIPSYNC_VENV": str(folder)}
    done = subprocess.run([ROOT / "scripts" / "test.sh", *options], env=environment, check=False)
    return [line.split() for line in (folder / "calls").read_text().splitlines()], done.returncode
