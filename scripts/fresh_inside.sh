#!/usr/bin/env bash
# What scripts/fresh.sh runs inside the chroot: `make serve` until it is ready, then `make test`.
set -uo pipefail
port="$1"
steps="$2"
. /root/environment
cd /root/nerf-lipsync
mkdir -p /root/logs
limit_s=1800

say() { printf '[fresh] %s\n' "$*"; }

serve() {
    local log=/root/logs/serve.log begin=$SECONDS
    make serve ARGS="--port $port" >"$log" 2>&1 &
    local pid=$!
    until grep -q "ready http://127.0.0.1:$port" "$log"; do
        if ! kill -0 "$pid" 2>/dev/null; then
            tail -n 30 "$log"
            say "make serve ended before it was ready"
            return 1
        fi
        if ((SECONDS - begin > limit_s)); then
            tail -n 30 "$log"
            say "make serve was not ready after $limit_s s"
            return 1
        fi
        sleep 1
    done
    say "make serve: ready after $((SECONDS - begin)) s: $(grep -m1 'ready http' "$log")"
    local url="http://127.0.0.1:$port"
    .venv/bin/python -c "import sys, urllib.request as u; [u.urlopen(sys.argv[1] + p).read() for p in ('/', '/healthz', '/readyz')]" \
        "$url" || { say "page, /healthz or /readyz failed"; return 1; }
    say "page, /healthz and /readyz answer"
    kill -TERM "$pid"  # make passes it on
    wait "$pid"
    if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
        say "the server still listens after SIGTERM"
        return 1
    fi
}

run_tests() {
    local begin=$SECONDS
    make test 2>&1 | tee /root/logs/test.log | tail -n 40
    local status="${PIPESTATUS[0]}"
    say "make test: exit code $status after $((SECONDS - begin)) s"
    return "$status"
}

status=0
case " $steps " in *" serve "*) serve || status=1 ;; esac
case " $steps " in *" test "*) run_tests || status=1 ;; esac
.venv/bin/python -m pip freeze >/root/logs/freeze.txt 2>&1
if grep -q '^nvidia-' /root/logs/freeze.txt; then
    say "CUDA packages were pulled in: $(grep -c '^nvidia-' /root/logs/freeze.txt)"
    status=1
fi
say "$([[ $status == 0 ]] && echo passed || echo FAILED)"
exit "$status"
