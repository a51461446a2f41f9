"""An event loop for media: UDP ports from one range, so that a firewall needs one rule; and, where the server is for
this machine only, ears for this machine only."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import ifaddr

__all__ = ["PortRangeLoop"]


class PortRangeLoop(asyncio.SelectorEventLoop):
    """Datagram endpoints that ask for any port (0) get the next free one of `ports`; None leaves it to the system.

    With `local_only` they hear nothing from other machines. (A browser on this machine talks to 127.0.0.1 or to one
    of the machine's own addresses, whichever it likes, so binding to 127.0.0.1 alone would not do.)

    aioice has no setting for either; it asks its loop for port 0 of each address.
    """

    def __init__(self, ports: range | None, *, local_only: bool = False) -> None:
        super().__init__()
        self._ports = ports
        self._local_only = local_only
        self._turn = itertools.count()

    async def create_datagram_endpoint(  # type: ignore[override]
        self, protocol_factory: Any, local_addr: tuple[str, int] | None = None, **options: Any
    ) -> Any:
        """As the base class.

        Raises:
            OSError: No port of the range is free.
        """
        if self._local_only:
            protocol_factory = _hearing_only_us(protocol_factory)
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


def _hearing_only_us(make: Callable[[], Any]) -> Callable[[], Any]:
    own = {
        str(ip.ip if isinstance(ip.ip, str) else ip.ip[0]) for adapter in ifaddr.get_adapters() for ip in adapter.ips
    }

    def made() -> Any:
        protocol = make()
        hear = protocol.datagram_received

        def hear_us(data: bytes, address: tuple[Any, ...]) -> None:
            if address[0] in own or str(address[0]).startswith("127."):
                hear(data, address)

        protocol.datagram_received = hear_us
        return protocol

    return made
