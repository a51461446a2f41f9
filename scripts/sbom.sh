#!/usr/bin/env bash
# Software bill of materials (CycloneDX 1.6, JSON) of the environment that `make serve` runs in: build/sbom.json.
# The generator lives in an environment of its own, so that it is not on the list.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python="${1:-.venv/bin/python}"
out="${2:-build/sbom.json}"
tools=build/sbom-tools
generator="cyclonedx-bom==7.5.0"

if ! "$tools/bin/cyclonedx-py" --version >/dev/null 2>&1; then
    "$python" -m venv "$tools"
    "$tools/bin/python" -m pip install --quiet --disable-pip-version-check "$generator"
fi
mkdir -p "$(dirname "$out")"
"$tools/bin/cyclonedx-py" environment --pyproject pyproject.toml --spec-version 1.6 --output-format JSON \
    --output-reproducible --validate --output-file "$out" "$python"
printf 'wrote %s: %s components\n' "$out" "$("$python" -c \
    'import json, sys; print(len(json.load(open(sys.argv[1]))["components"]))' "$out")"
