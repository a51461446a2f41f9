"""What of an offer is tried, and what an answer says."""

from __future__ import annotations

import pytest

from stream_server.errors import OfferError
from stream_server.worker.offers import MOST_CANDIDATES, advertise, ask_for_redundancy, checked_offer


def candidate(address: str, kind: str = "host") -> str:
    return f"a=candidate:1 1 udp 2113937151 {address} 55555 typ {kind} generation 0\r\n"


@pytest.mark.parametrize(
    "address", ["8d0f-11.local", "evil.example", "224.0.0.1", "169.254.1.1", "fe80::1", "0.0.0.0", "x"]
)
def test_what_must_not_be_tried_is_taken_out(address: str) -> None:
    good = candidate("192.0.2.7") + candidate("2001:db8::7", "srflx")
    assert checked_offer("v=0\r\n" + candidate(address) + good) == "v=0\r\n" + good


def test_too_many_candidates_are_refused_with_their_number() -> None:
    most = "v=0\r\n" + candidate("192.0.2.7") * MOST_CANDIDATES
    assert checked_offer(most) == most
    with pytest.raises(OfferError, match="21 candidates"):
        checked_offer(most + candidate("192.0.2.7"))


def test_a_truncated_candidate_is_taken_out() -> None:
    assert checked_offer("v=0\r\na=candidate:1 1 udp\r\n") == "v=0\r\n"


def test_host_candidates_are_advertised_under_the_gateways_address() -> None:
    sdp = candidate("10.0.0.4") + candidate("127.0.0.1") + candidate("198.51.100.9", "srflx") + "a=mid:0\r\n"
    wanted = candidate("203.0.113.5") + candidate("127.0.0.1") + candidate("198.51.100.9", "srflx") + "a=mid:0\r\n"
    assert advertise(sdp, "203.0.113.5") == wanted


def test_redundancy_is_asked_for_once() -> None:
    plain = "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=rtpmap:111 opus/48000/2\r\na=mid:0\r\n"
    asked = ask_for_redundancy(plain)
    assert "a=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10;useinbandfec=1\r\n" in asked
    assert ask_for_redundancy(asked) == asked
