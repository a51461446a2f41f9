"""A worker's threads are all there from the beginning, so that a busy moment starts none."""

from __future__ import annotations

import asyncio
import threading

from stream_server.worker.threads import started_executor


def test_all_threads_run_before_the_first_job_and_none_is_started_later() -> None:
    before = threading.active_count()

    async def run() -> set[str]:
        asyncio.get_running_loop().set_default_executor(started_executor(4))
        assert threading.active_count() == before + 4
        together = threading.Barrier(4, timeout=10)

        def job() -> str:
            together.wait()
            return threading.current_thread().name

        names = await asyncio.gather(*(asyncio.to_thread(job) for _ in range(12)))
        assert threading.active_count() == before + 4
        return set(names)

    assert len(asyncio.run(run())) == 4
    assert threading.active_count() == before
