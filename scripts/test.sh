#!/usr/bin/env bash
# The tests, for `make test` and .ci/run alike, in two runs of pytest: first what only computes, in a process for
# each core (four at most); then what keeps time (servers, calls, browsers), one after another with nothing beside it.
#
#   scripts/test.sh -k name -x               options go to both runs
#   scripts/test.sh tests/model/test_x.py    with a path among them there is one run, of that path, in one process
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

pytest="${NERF_LIPSYNC_VENV:-.venv}/bin/python -m pytest"
keeps_time=(tests/stream_server tests/browser)
nothing_chosen=5  # pytest's exit code when -k or -m leave no test

for word in "$@"; do
    [[ "$word" != tests/* ]] || exec $pytest "$@"
done

processes="$(nproc)"
((processes <= 4)) || processes=4
$pytest --numprocesses "$processes" --dist worksteal "${keeps_time[@]/#/--ignore=}" "$@"
computing=$?
$pytest "${keeps_time[@]}" "$@"
keeping=$?

if ((computing == nothing_chosen && keeping == nothing_chosen)); then
    exit $nothing_chosen
fi
((computing == 0 || computing == nothing_chosen)) && ((keeping == 0 || keeping == nothing_chosen))
