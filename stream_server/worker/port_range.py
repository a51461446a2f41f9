"""An event loop whose UDP sockets come from one range of ports, so that a firewall needs one rule."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

__all__ = ["PortRangeLoop"]


class PortRangeLoop(asyncio.SelectorEventLoop):
    """Datagram endpoints that ask for any port (0) get the next free one of `ports`; None leaves it to the system.

    aioice has no setting for this; it asks its loop for port 0 of each address.
    """

    def __init__(self, ports: range | None) -> None:
        super().__init__()
        self._ports = ports
        self._turn = itertools.count()

    async def create_datagram_endpoint(  # type: ignore[override]
        self, protocol_factory: Any, local_addr: tuple[str, int] | None = None, **options: Any
    ) -> Any:
        """As the base class.

        Raises:
            OSError: No port of the range is free.
        """
        if local_addr is None or local_addr[1] != 0 or self._ports is None:
            return await super().create_datagram_endpoint(protocol_factory, local_addr=local_addr, **options)
        start = next(self._turn)
        for offset in range(len(self._ports)):
            port = self._ports[(start + offset) % len(self._ports)]
            try:
                return await super().create_datagram_endpoint(
                    protocol_factory, local_addr=(local_addr[0], port), **options
                )
            except OSError:
                continue
        first, last = self._ports[0], self._ports[-1]
        raise OSError(f"no free UDP port within {first}-{last} on {local_addr[0]}; widen --udp-ports")
