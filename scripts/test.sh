#!/usr/bin/env bash
# The tests, for `make test` and .ci/run alike, in two runs of pytest: first what only computes, in a process for
# each core (four at most); then what watches real time (servers, calls, browsers), with nothing beside it.
#
#   scripts/test.sh -k name -x               options go to both runs
#   scripts/test.sh tests/model/test_x.py    with a path among them there is one run, of that path, in one process
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

pytest="${NERF_LIPSYNC_VENV:-.venv}/bin/python -m pytest"
nothing_chosen=5  # pytest's exit code when -k or -m leave no test

for word in "$@"; do
    [[ "$word" != tests/* ]] || exec $pytest "$@"
done

processes="$(env -u OMP_NUM_THREADS nproc)"  # nproc believes that variable
((processes <= 4)) || processes=4
$pytest --timed without --numprocesses "$processes" --dist worksteal "$@"
computing=$?
$pytest --timed only tests/stream_server tests/browser tests/deploy "$@"  # as tests/conftest.py has it
timed=$?

if ((computing == nothing_chosen && timed == nothing_chosen)); then
    exit $nothing_chosen
fi
((computing == 0 || computing == nothing_chosen)) && ((timed == 0 || timed == nothing_chosen))
