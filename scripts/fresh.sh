#!/usr/bin/env bash
# Prove `make serve` and `make test` on a bare machine: a minimal Debian chroot with nothing but make added.
#
#   scripts/fresh.sh               needs root, mmdebstrap and unshare; logs go to runs/fresh/
#
# FRESH_PORT (8080)   port of the server; the chroot shares the host's network
# FRESH_ROOT          folder of the chroot (a temporary one)
# FRESH_KEEP=1        leave the chroot there afterwards
# FRESH_STEPS         "serve test", or one of them
#
# Where packages come from is the host's business: its pip settings (PIP_*, pip.conf, local folders that they name),
# apt sources, proxies and certificates are passed in as they are.
set -euo pipefail
repo="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
port="${FRESH_PORT:-8080}"
steps="${FRESH_STEPS:-serve test}"
logs="$repo/runs/fresh/$(date -u +%Y%m%dT%H%M%SZ)"
root="${FRESH_ROOT:-}"

say() { printf '[fresh] %s\n' "$*"; }
die() { say "$*" >&2; exit 1; }

check_host() {
    ((EUID == 0)) || die "needs root (for chroot); run: sudo make fresh"
    local tool
    for tool in mmdebstrap unshare chroot git; do
        command -v "$tool" >/dev/null || die "needs $tool; run: apt-get install mmdebstrap util-linux git"
    done
    if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
        die "port $port is taken on this machine; choose another: FRESH_PORT=8090 make fresh"
    fi
}

# --- the chroot ------------------------------------------------------------------------------------------------

make_chroot() {
    local suite=bookworm sources=()
    if grep -qs '^ID=debian' /etc/os-release; then
        suite="$(. /etc/os-release && echo "$VERSION_CODENAME")"
        for file in /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list; do
            if [[ -s "$file" ]]; then
                sources=("$file")
                break
            fi
        done
    fi
    mmdebstrap --quiet --variant=minbase --include=make "$suite" "$root" "${sources[@]}" >"$logs/mmdebstrap.log" 2>&1 ||
        die "mmdebstrap failed, see $logs/mmdebstrap.log"
    apt-config dump | grep -i '^acquire::.*proxy' >"$root/etc/apt/apt.conf.d/99host-proxy" || true
    cp -L /etc/hosts /etc/resolv.conf "$root/etc/"
}

pip_files() {
    python3 -m pip config debug 2>/dev/null | sed -n 's/^ *\(\/.*\), exists: True$/\1/p'
}

# Local folders that pip reads: find-links, and index URLs with the file scheme (whose files lie beside `simple`).
pip_folders() {
    {
        pip_files | xargs -r cat
        env | grep '^PIP_' || true
    } | grep -oE '(file://)?/[A-Za-z0-9_./+-]+' | while read -r path; do
        path="${path#file://}"
        path="${path%/}"
        [[ "$path" == */simple ]] && path="${path%/simple}"
        [[ -d "$path" ]] && printf '%s\n' "$path"
    done | sort -u
}

# The environment inside: the host's pip settings and proxies, and its certificates at a path no package replaces.
write_environment() {
    local bundle="${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}"
    {
        env | grep -E '^(PIP_[A-Z_]+|(https?|no|all)_proxy|(HTTPS?|NO|ALL)_PROXY)=' | grep -v '^PIP_CERT=' |
            while IFS='=' read -r name value; do printf 'export %s=%q\n' "$name" "$value"; done
        echo 'export HOME=/root LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
        if [[ -f "$bundle" ]]; then
            cp -L "$bundle" "$root/usr/local/share/host-certificates.pem"
            local name
            for name in PIP_CERT SSL_CERT_FILE REQUESTS_CA_BUNDLE; do
                echo "export $name=/usr/local/share/host-certificates.pem"
            done
        fi
    } >"$root/root/environment"
    local file
    for file in $(pip_files); do
        mkdir -p "$root$(dirname "$file")"
        cp -L "$file" "$root$file"
    done
}

copy_project() {
    git clone --quiet "$repo" "$root/root/nerf-lipsync"
    say "cloned $(git -C "$root/root/nerf-lipsync" log -1 --format='%h %s')"
    cp "$repo/scripts/fresh_inside.sh" "$root/root/inside.sh"
}

# --- running in it ---------------------------------------------------------------------------------------------

# Runs in its own mount and process namespace: what is mounted and started here is gone when it ends.
enter() {
    set -euo pipefail
    local root="$1" folder
    shift
    mount -t proc proc "$root/proc"
    mount --rbind /sys "$root/sys" || true
    mkdir -p "$root/dev/shm" "$root/dev/pts"
    mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
    mount -t devpts devpts "$root/dev/pts" || true
    for folder in $(pip_folders); do
        mkdir -p "$root$folder"
        mount --bind "$folder" "$root$folder" 2>/dev/null || cp -a "$folder/." "$root$folder/"
    done
    chroot "$root" /bin/bash /root/inside.sh "$@"
}

main() {
    check_host
    mkdir -p "$logs"
    if [[ -z "$root" ]]; then
        root="$(mktemp -d /var/tmp/nerf-lipsync-fresh.XXXXXX)"
    fi
    mkdir -p "$root"
    chmod 755 "$root"
    [[ -n "${FRESH_KEEP:-}" ]] || trap 'rm -rf --one-file-system "$root"' EXIT
    say "minimal chroot in $root"
    make_chroot
    write_environment
    copy_project
    local status=0
    export -f enter pip_folders pip_files
    unshare --mount --pid --fork --kill-child --propagation private bash -c 'enter "$@"' bash "$root" "$port" "$steps" || status=$?
    cp -r "$root/root/logs/." "$logs/" 2>/dev/null || true
    say "logs: ${logs#"$repo"/}"
    return "$status"
}

main "$@"
