"""What the project's own files must agree on."""

from __future__ import annotations

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
    [*(f"scripts/{name}.sh" for name in ("bootstrap", "fresh", "fresh_inside", "lint_deploy", "sbom")), ".ci/run"],
)
def test_scripts_parse(script: str) -> None:
    done = subprocess.run(["bash", "-n", ROOT / script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
