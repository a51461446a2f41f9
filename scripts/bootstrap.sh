#!/usr/bin/env bash
# Make .venv ready: find Python, install what is missing, build the kernel library. Quick when nothing changed.
#
#   scripts/bootstrap.sh            everything, tests' needs included
#
# Safe to stop and start again: the stamp is written last. NERF_LIPSYNC_VENV and NERF_LIPSYNC_PYTHON override
# the folder of the environment and the interpreter. torch goes in first and by itself, so that pip takes the
# CPU build where one is offered and never fetches gigabytes of CUDA libraries on the way.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

venv="${NERF_LIPSYNC_VENV:-.venv}"
stamp="$venv/.nerf-lipsync-stamp"
log() { printf '[bootstrap] %s\n' "$*" >&2; }
die() { log "$*"; exit 1; }

stamp_key() {
    cat pyproject.toml constraints.txt CMakeLists.txt scripts/bootstrap.sh
    find kernels -path '*/csrc/*' -type f | LC_ALL=C sort | xargs cat
}

is_ready() {
    [[ -x "$venv/bin/nerf-lipsync" && -f "$stamp" ]] || return 1
    [[ "$(cat "$stamp")" == "$1" ]] && [[ -f kernels/ray_march/libnlsmarch.so || ! -f "$venv/.has-compiler" ]]
}

# --- system packages -------------------------------------------------------------------------------------------

# Where no interpreter is new enough, apt's own may be; `apt_missing` collects names, `apt_install` acts on them once.
apt_missing=()
need() { apt_missing+=("$@"); }

has_library() { PATH="$PATH:/sbin:/usr/sbin" ldconfig -p 2>/dev/null | grep -q "$1"; }

apt_install() {
    ((${#apt_missing[@]})) || return 0
    local names="${apt_missing[*]}"
    command -v apt-get >/dev/null || die "please install these (Debian's names), then run this again: $names"
    if ((EUID != 0)); then
        die "please run: sudo apt-get install $names"
    fi
    log "installing with apt-get: $names"
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq update || log "apt-get update failed; trying with the lists at hand"
    # shellcheck disable=SC2086 # words are package names
    apt-get -qq install -y --no-install-recommends $names >/dev/null ||
        die "apt-get could not install: $names"
}

find_python() {
    local name
    for name in "${NERF_LIPSYNC_PYTHON:-}" python3.11 python3.12 python3.13 python3; do
        [[ -n "$name" ]] && command -v "$name" >/dev/null || continue
        "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue
        command -v "$name"
        return 0
    done
    return 1
}

can_make_venv() { "$1" -c 'import ensurepip, venv' 2>/dev/null; }

find_chromium() {
    local name
    for name in "${NERF_LIPSYNC_CHROMIUM:-}" chromium chromium-browser google-chrome google-chrome-stable; do
        [[ -n "$name" ]] && command -v "$name" >/dev/null && return 0
    done
    return 1
}

install_system_packages() {
    local python
    if python="$(find_python)"; then
        can_make_venv "$python" || need python3-venv
    else
        need python3 python3-venv
    fi
    command -v c++ >/dev/null || command -v g++ >/dev/null || need g++
    find_chromium || need chromium fonts-dejavu-core
    # What OpenCV and MediaPipe load; they come with no copies of their own.
    has_library libGL.so.1 || need libgl1
    has_library libEGL.so.1 || need libegl1
    has_library libGLESv2.so.2 || need libgles2
    has_library libglib-2.0.so.0 || need libglib2.0-0
    apt_install
}

# --- Python packages -------------------------------------------------------------------------------------------

pip_install() { "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@"; }

make_venv() {
    local python
    python="$(find_python)" || die "Python 3.11 or newer is needed and was not found; install it and run this again"
    can_make_venv "$python" || die "$python cannot make virtual environments; please install its venv package"
    if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
        log "creating $venv with $("$python" --version)"
        "$python" -m venv --clear "$venv"
    fi
}

install_python_packages() {
    local torch
    torch="$(grep -m1 '^torch==' constraints.txt)"
    log "installing $torch"
    pip_install "$torch"
    log "installing the other packages"
    pip_install -r <(requirements) -c constraints.txt
}

# The dependencies of pyproject.toml and its dev extra, one a line: installed before the package itself, because an
# editable install without build isolation needs scikit-build-core to be there.
requirements() {
    "$venv/bin/python" - <<'PY'
import tomllib

with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)["project"]
print("\n".join(project["dependencies"] + project["optional-dependencies"]["dev"]))
PY
}

install_package() {
    log "installing the package itself, in place"
    pip_install --no-deps --no-build-isolation --config-settings=wheel.cmake=false --editable .
}

build_library() {
    rm -f "$venv/.has-compiler"
    if ! command -v c++ >/dev/null && ! command -v g++ >/dev/null; then
        log "no C++ compiler: the slow pure-Python kernels will be used"
        return 0
    fi
    log "building the kernel library"
    local bin
    bin="$(cd "$venv/bin" && pwd)"
    PATH="$bin:$PATH" cmake -S . -B build/native -G Ninja --log-level=WARNING
    PATH="$bin:$PATH" cmake --build build/native >&2
    touch "$venv/.has-compiler"
}

main() {
    local key
    key="$(stamp_key | sha256sum | cut -d' ' -f1)"
    if is_ready "$key"; then
        return 0
    fi
    local begin=$SECONDS
    install_system_packages
    make_venv
    install_python_packages
    install_package
    build_library
    printf '%s\n' "$key" >"$stamp"
    log "ready in $((SECONDS - begin)) s"
}

main "$@"
