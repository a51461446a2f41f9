"""One call with the shipped avatar: its cost, how soon it is back after its engine was killed, how it is interrupted.

    python benchmarks/bench_session.py --json benchmarks/results/session.json

The caller is an aiortc peer in this process, and is not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import aioice.ice

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from model.results import Figure, new_results, write_results
from tests.stream_server.real_peer import RealPeer, offer_loopback
from tests.stream_server.server_calls import Assistant, tone
from tests.stream_server.server_process import ServerProcess

KILLS = 3
INTERRUPTS = 10
CORES = 2
LOUD = 500.0


def cpu_s(pid: int) -> float:
    """CPU seconds a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def cost(server: ServerProcess, seconds: float) -> tuple[dict[str, float], float]:
    """Cores that each process uses during a call, and the call's frames per second."""
    async with RealPeer(server.url) as peer:
        await peer.call()
        await peer.until(lambda: len(peer.codes) >= 75)
        children = server.children()
        before, started, seen = {n: cpu_s(p) for n, p in children.items()}, time.monotonic(), len(peer.codes)
        await asyncio.sleep(seconds)
        elapsed = time.monotonic() - started
        await peer.hang_up()
        used = {name: (cpu_s(pid) - before[name]) / elapsed for name, pid in children.items()}
        return used, (len(peer.codes) - seen) / elapsed


async def recovery_s(server: ServerProcess) -> float:
    """From the engine's death to the first new frame of the same call."""
    async with RealPeer(server.url) as peer:
        await peer.call()
        await peer.until(lambda: len(peer.codes) >= 50)
        os.kill(server.children()["engine"], signal.SIGKILL)
        killed = time.monotonic()
        await asyncio.sleep(0.6)  # what was made before its death has been shown by then
        last = max(code for code in peer.codes if code is not None)
        await peer.until(lambda: (peer.codes[-1] or 0) > last, timeout_s=60)
        took_s = time.monotonic() - killed
        await peer.hang_up()
        return took_s


async def interrupts(server: ServerProcess) -> list[float]:
    """For each interrupt in the middle of a sound: ms from its sending to the last loud sound, by arrival here.

    How the mouth stops is tested on the motion (`tests/model/test_rewind.py`): pictures hold blinks and sway too.
    """
    sound_ms = []
    assistant = await Assistant.open(server, frames="jpeg")
    async with assistant.socket:
        for turn in range(INTERRUPTS):
            await assistant.socket.send(tone(4.0))
            await assistant.send(type="utterance.end")
            await assistant.until(lambda turn=turn: len(assistant.of("playback.started")) > turn)
            seen = len(assistant.pictures)
            await assistant.until(lambda seen=seen, turn=turn: len(assistant.pictures) >= seen + 20 + turn % 5)
            await assistant.send(type="interrupt")
            sent_at = last_loud = time.monotonic()
            while time.monotonic() < sent_at + 1.0:
                heard = len(assistant.loud)
                await assistant.until(lambda heard=heard: len(assistant.loud) > heard)
                if assistant.loud[-1][1] > LOUD:
                    last_loud = time.monotonic()
            sound_ms.append(1000 * (last_loud - sent_at))
    return sound_ms


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(argv)
    offer_loopback()
    assert aioice.ice.get_host_addresses is not None
    arguments = ("--timecode", "--exact-size", "--size", str(options.size), "--steps", str(options.steps))
    with ServerProcess(*arguments, "--max-sessions", "1", pipeline=None, timeout_s=180) as server:
        print(server.ready_line)
        used, fps = asyncio.run(cost(server, options.seconds))
        kills = [asyncio.run(recovery_s(server)) for _ in range(KILLS)]
        sound_ms = asyncio.run(interrupts(server))
    made = {f"cores_{name.split('-')[0]}": Figure(value=v, unit="cores", better="lower") for name, v in used.items()}
    share = 100 * sum(used.values()) / CORES
    made |= {
        "share_of_two_cores": Figure(value=share, unit="%", goal=40.0, better="lower"),
        "fps": Figure(value=fps, unit="fps", goal=24.0, better="higher"),
        "engine_killed_to_new_frame": Figure(value=max(kills), unit="s", goal=5.0, better="lower", n=KILLS),
        "interrupt_to_last_sound": Figure(value=max(sound_ms), unit="ms", goal=120.0, better="lower", n=INTERRUPTS),
    }
    for name, figure in made.items():
        print(f"{name:36} {figure.value:9.2f} {figure.unit}")
    if options.json is not None:
        command = f"python benchmarks/bench_session.py --size {options.size} --steps {options.steps}"
        data = "a made voice; the shipped avatar; loopback"
        write_results(options.json, new_results(made, command=command, data=data))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
