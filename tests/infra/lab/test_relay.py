"""The relay delays what it is asked to delay, both ways and in order, and nothing else."""

from __future__ import annotations

import multiprocessing
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra.lab.relay import PACKET_OUTGOING, VNET_HDR_SIZE, carry, concerns, receive

WEB, DB, OTHER = (socket.inet_aton(f"198.18.77.{number}") for number in (11, 13, 16))
IPV4, IPV6, ARP = b"\x08\x00", b"\x86\xdd", b"\x08\x06"
Wire = tuple[socket.socket, socket.socket]


def frame(source: bytes, target: bytes, kind: bytes = IPV4) -> bytes:
    """An offload header, an Ethernet header, and as much of an IPv4 header as has the two addresses."""
    return bytes(VNET_HDR_SIZE) + bytes(12) + kind + bytes(12) + source + target


@pytest.mark.parametrize("kind", [IPV4, IPV6, ARP])
def test_without_a_peer_every_frame_is_delayed(kind: bytes) -> None:
    assert concerns(frame(WEB, OTHER, kind), None)


def test_with_a_peer_only_ipv4_from_it_and_to_it_is_delayed() -> None:
    assert concerns(frame(DB, WEB), DB)
    assert concerns(frame(WEB, DB), DB)
    assert not concerns(frame(WEB, OTHER), DB)
    assert not concerns(frame(WEB, DB, ARP), DB)
    assert not concerns(frame(WEB, DB, IPV6), DB)
    assert not concerns(b"", DB)


def test_what_the_relay_sent_itself_is_not_carried_back() -> None:
    waiting = [(b"ours", PACKET_OUTGOING), (b"theirs", 0)]

    class Packets(socket.socket):
        def recvfrom(self, *_: object) -> tuple[bytes, tuple[str, int, int]]:
            if not waiting:
                raise BlockingIOError
            data, direction = waiting.pop(0)
            return data, ("h11", 3, direction)

    with Packets() as packets:
        assert receive(packets) == [b"theirs"]


@pytest.fixture
def wire(tmp_path: Path) -> Iterator[Callable[[float, bytes | None], Wire]]:
    """The two outer ends of a wire with a relay in its middle; datagram sockets stand for interfaces."""
    opened: list[socket.socket] = []
    relays: list[multiprocessing.process.BaseProcess] = []

    def cable(name: str) -> Wire:
        ends = tuple(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2))
        for number, end in enumerate(ends):
            end.bind(str(tmp_path / f"{name}{number}"))
            opened.append(end)
        ends[0].connect(ends[1].getsockname())
        ends[1].connect(ends[0].getsockname())
        ends[0].settimeout(5)
        ends[1].setblocking(False)
        return ends[0], ends[1]

    def lay(one_way_s: float, peer: bytes | None) -> Wire:
        (host, a), (bridge, b) = cable("host"), cable("bridge")
        relay = multiprocessing.get_context("fork").Process(target=carry, args=(a, b, one_way_s, peer))
        relay.start()
        relays.append(relay)
        return host, bridge

    yield lay
    for relay in relays:
        relay.kill()
        relay.join()
    for end in opened:
        end.close()


def test_frames_arrive_late_both_ways_and_in_order(wire: Callable[[float, bytes | None], Wire]) -> None:
    host, bridge = wire(0.1, None)
    for sender, receiver in ((host, bridge), (bridge, host)):
        sent = [frame(WEB, OTHER) + bytes([number]) for number in range(20)]
        began = time.monotonic()
        for each in sent:
            sender.send(each)
        assert receiver.recv(100) == sent[0]
        assert time.monotonic() - began >= 0.1
        assert [receiver.recv(100) for _ in sent[1:]] == sent[1:]


def test_frames_of_others_overtake_those_of_the_slow_peer(
    wire: Callable[[float, bytes | None], Wire],
) -> None:
    host, bridge = wire(0.3, DB)
    slow, quick = frame(WEB, DB), frame(WEB, OTHER)
    host.send(slow)
    host.send(quick)
    assert [bridge.recv(100), bridge.recv(100)] == [quick, slow]
