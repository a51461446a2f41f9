#!/usr/bin/env bash
# Make .venv ready: find Python, install what is missing, build the kernel library. Quick when nothing changed.
#
#   scripts/bootstrap.sh            everything, tests' needs included
#   scripts/bootstrap.sh cluster    also the packages of that extra (Ray)
#   scripts/bootstrap.sh credentials  also c2pa-python, for Content Credentials and their tests
#   scripts/bootstrap.sh voices     also what `prepare voices` needs: synthesisers, their voices, a soundfont
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
    if has_compiler; then echo "with a compiler"; fi
}

is_ready() {
    [[ -x "$venv/bin/nerf-lipsync" && -f "$stamp" ]] || return 1
    [[ "$(cat "$stamp")" == "$1" ]] || return 1
    [[ -f kernels/ray_march/libnlsmarch.so ]] || ! has_compiler
}

has_compiler() { command -v c++ >/dev/null || command -v g++ >/dev/null; }

# --- system packages -------------------------------------------------------------------------------------------

# Debian's names of what is missing: without the first nothing works, without the second something is slow or skipped.
required=()
wanted=()

has_library() { PATH="$PATH:/sbin:/usr/sbin" ldconfig -p 2>/dev/null | grep -q "$1"; }

apt_install() {
    local names="${required[*]} ${wanted[*]}"
    [[ -n "${names// /}" ]] || return 0
    if ! command -v apt-get >/dev/null || ((EUID != 0)); then
        ((${#required[@]} == 0)) || die "please install, then run this again: sudo apt-get install$(printf ' %s' $names)"
        log "going on without (install when you can: sudo apt-get install ${wanted[*]})"
        return 0
    fi
    log "installing with apt-get:$(printf ' %s' $names)"
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq update || log "apt-get update failed; trying with the lists at hand"
    # shellcheck disable=SC2086 # words are package names
    apt-get -qq install -y --no-install-recommends $names >/dev/null || die "apt-get could not install: $names"
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
        can_make_venv "$python" || required+=(python3-venv)
    else
        required+=(python3 python3-venv)
    fi
    has_compiler || wanted+=(g++)  # the fused kernel; without it pictures are far too slow
    find_chromium || wanted+=(chromium fonts-dejavu-core)  # the browser tests
    # What OpenCV and MediaPipe load (making avatars, and its tests); they bring no copies of their own.
    has_library libGL.so.1 || wanted+=(libgl1)
    has_library libEGL.so.1 || wanted+=(libegl1)
    has_library libGLESv2.so.2 || wanted+=(libgles2)
    has_library libglib-2.0.so.0 || wanted+=(libglib2.0-0)
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
    if ! has_compiler; then
        log "no C++ compiler: the slow pure-Python kernels will be used"
        return 0
    fi
    log "building the kernel library"
    local bin
    bin="$(cd "$venv/bin" && pwd)"
    PATH="$bin:$PATH" cmake -S . -B build/native -G Ninja --log-level=WARNING
    PATH="$bin:$PATH" cmake --build build/native >&2
}

main() {
    local key
    [[ -f CMakeLists.txt ]] || die "no CMakeLists.txt here: the checkout is incomplete"
    key="$(stamp_key | sha256sum | cut -d' ' -f1)"
    if is_ready "$key"; then
        return 0
    fi
    mkdir -p build
    exec 9>build/bootstrap.lock
    flock 9  # `make serve` and `make test` may start together
    if is_ready "$key"; then
        return 0
    fi
    local begin=$SECONDS
    install_system_packages
    make_venv
    install_python_packages
    install_package
    build_library
    stamp_key | sha256sum | cut -d' ' -f1 >"$stamp"  # again: a compiler may have come
    log "ready in $((SECONDS - begin)) s"
}

voices=(festival-ca festival-czech festvox-kallpc16k festvox-kdlpc16k festvox-us-slt-hts festvox-italp16k
    festvox-itapc16k festvox-suopuhe-lj festvox-suopuhe-mv festvox-ca-ona-hts festvox-czech-dita festvox-czech-krb
    festvox-czech-machac festvox-czech-ph festvox-ru)

# The synthesisers of the voice corpus; without them its tests are skipped, and say so.
install_voices() {
    required=()
    wanted=()
    has_library libespeak-ng.so.1 || wanted+=(libespeak-ng1 espeak-ng-data)
    command -v flite >/dev/null || wanted+=(flite)
    command -v festival >/dev/null || wanted+=(festival "${voices[@]}")
    command -v fluidsynth >/dev/null || wanted+=(fluidsynth)
    [[ -f /usr/share/sounds/sf2/FluidR3_GM.sf2 ]] || wanted+=(fluid-soundfont-gm)
    (apt_install) || log "going on without them"
}

# Extras beyond what everybody needs, each once per set of versions.
install_extras() {
    local extra key
    for extra in "$@"; do
        key="$(cat pyproject.toml constraints.txt | sha256sum | cut -d' ' -f1)"
        [[ "$(cat "$venv/.extra-$extra" 2>/dev/null)" != "$key" ]] || continue
        log "installing the extra $extra"
        [[ "$extra" != voices ]] || install_voices
        pip_install -r <("$venv/bin/python" -c 'import sys, tomllib
print("\n".join(tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"][sys.argv[1]]))' "$extra") -c constraints.txt
        printf '%s\n' "$key" >"$venv/.extra-$extra"
    done
}

main
install_extras "$@"
