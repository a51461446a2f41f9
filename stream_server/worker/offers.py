"""What a peer may offer, and what it is told: candidates are checked on the way in, rewritten on the way out."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from stream_server.errors import OfferError

__all__ = [
    "MOST_CANDIDATES",
    "advertise",
    "ask_for_redundancy",
    "check_sections",
    "checked_offer",
    "section_kinds",
]

MOST_CANDIDATES = 20
_CANDIDATE = "a=candidate:"
_ADDRESS_FIELD, _PORT_FIELD = 4, 5


def checked_offer(sdp: str) -> str:
    """The same SDP without candidates that must not be tried: host names, impossible ports, multicast, link-local.

    (Names would have to be resolved: aiortc waits a second for each, and they may point anywhere.)

    Raises:
        OfferError: More than 20 candidates.
    """
    kept: list[str] = []
    count = 0
    for line in sdp.splitlines(keepends=True):
        if line.startswith(_CANDIDATE):
            count += 1
            if not _may_be_tried(line):
                continue
        kept.append(line)
    if count > MOST_CANDIDATES:
        raise OfferError(f"the offer has {count} candidates; at most {MOST_CANDIDATES} are looked at")
    return "".join(kept)


def check_sections(kinds: Sequence[str], sends: Sequence[str]) -> None:
    """Whether an offer with sections of these kinds can carry what is sent (nothing: then sound comes in).

    aiortc must not see others: it fails in the middle of connecting where a track of ours has no section.

    Raises:
        OfferError: A section is missing, or there is one too many.
    """
    found, needed = sorted(kinds), sorted(sends) or ["audio"]
    if found != needed and not (found == ["audio", "video"] and set(needed) < set(found)):
        raise OfferError(f"the offer needs one {' and one '.join(needed)} section, got {found}")


def section_kinds(sdp: str) -> list[str]:
    """Kinds of the sections of an SDP that carry media, in order."""
    kinds = [line[2:].split(" ", 1)[0].strip() for line in sdp.splitlines() if line.startswith("m=")]
    return [kind for kind in kinds if kind != "application"]


def advertise(sdp: str, address: str) -> str:
    """The same SDP with `address` in the place of the host candidates' own: a server behind a forwarding gateway."""
    lines = []
    for line in sdp.splitlines(keepends=True):
        words = line.split(" ")
        if line.startswith(_CANDIDATE) and " typ host" in line and not _is_loopback(words[_ADDRESS_FIELD]):
            words[_ADDRESS_FIELD] = address
        lines.append(" ".join(words))
    return "".join(lines)


def ask_for_redundancy(sdp: str) -> str:
    """The same answer, saying that Opus packets may hold the outline of the one before (in-band FEC).

    Browsers send it only to those who say so; with it a lost packet is heard nearly whole (see `media/libopus.py`).
    """
    lines = []
    for line in sdp.splitlines(keepends=True):
        lines.append(line)
        if line.startswith("a=rtpmap:") and "opus/48000" in line.lower():
            payload_type = line.removeprefix("a=rtpmap:").partition(" ")[0]
            if f"a=fmtp:{payload_type} " not in sdp:
                lines.append(f"a=fmtp:{payload_type} minptime=10;useinbandfec=1\r\n")
    return "".join(lines)


def _may_be_tried(line: str) -> bool:
    words = line.split(" ")
    if len(words) <= _PORT_FIELD:
        return False
    try:
        address, port = ipaddress.ip_address(words[_ADDRESS_FIELD]), int(words[_PORT_FIELD])
    except ValueError:
        return False
    if not 0 < port < 65536:
        return False
    return not (address.is_multicast or address.is_link_local or address.is_unspecified)


def _is_loopback(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).is_loopback
    except ValueError:
        return False
