"""Delay what a host sends and receives: frames are carried between two interfaces, late.

Stands in for ``tc qdisc netem``, which many kernels lack. Half of the delay is added each way, so that a
round trip is longer by all of it. Frames keep their order among those of the same delay. Run by the holder as
``python -m infra.lab.relay HOST_SIDE BRIDGE_SIDE DELAY_MS [PEER_ADDRESS]``.

It says ``ready``, waits for a line while the holder moves the cable, and says ``carrying`` once frames pass.
Had it listened before, the last frames that the bridge carried without it would arrive twice.

Source: packet(7); PACKET_VNET_HDR carries checksum and segmentation offload along, see virtio_net_hdr in
linux/virtio_net.h.
"""

from __future__ import annotations

import heapq
import itertools
import select
import socket
import sys
import time

ETH_P_ALL = 0x0003
ETH_P_IP = b"\x08\x00"
SOL_PACKET = 263
PACKET_VNET_HDR = 15
VNET_HDR_SIZE = 10
PACKET_OUTGOING = 4
SO_RCVBUFFORCE = 33
LARGEST_FRAME = 70_000
BUFFER_BYTES = 8 * 1024 * 1024


def open_unbound() -> socket.socket:
    """A non-blocking packet socket that keeps offload headers, and hears nothing before it is bound."""
    packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    packets.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    packets.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
    packets.setblocking(False)
    return packets


def concerns(frame: bytes, peer: bytes | None) -> bool:
    """Whether a frame (with its offload header) is delayed: all are, or the IPv4 ones from or to `peer`."""
    if peer is None:
        return True
    ethernet = frame[VNET_HDR_SIZE:]
    return ethernet[12:14] == ETH_P_IP and peer in (ethernet[26:30], ethernet[30:34])


def receive(packets: socket.socket) -> list[bytes]:
    """Every frame that waits, those that we sent ourselves excepted; none while the interface is down."""
    frames: list[bytes] = []
    try:
        while len(frames) < 256:
            frame, origin = packets.recvfrom(LARGEST_FRAME)
            if origin[2] != PACKET_OUTGOING:
                frames.append(frame)
    except OSError:  # nothing left, or the cable is out
        pass
    return frames


def send(packets: socket.socket, frame: bytes) -> None:
    """Put a frame on the wire, or lose it as a wire without a carrier does."""
    try:
        packets.send(frame)
    except OSError:
        return


def carry(a: socket.socket, b: socket.socket, one_way_s: float, peer: bytes | None) -> None:
    """Carry frames both ways until the process is ended."""
    other = {a: b, b: a}
    late: list[tuple[float, int, socket.socket, bytes]] = []
    sequence = itertools.count()
    while True:
        wait = max(0.0, late[0][0] - time.monotonic()) if late else None
        readable, _, _ = select.select([a, b], [], [], wait)
        now = time.monotonic()
        for source in readable:
            for frame in receive(source):
                due = now + one_way_s if concerns(frame, peer) else now
                heapq.heappush(late, (due, next(sequence), other[source], frame))
        now = time.monotonic()
        while late and late[0][0] <= now:
            _, _, destination, frame = heapq.heappop(late)
            send(destination, frame)


def main(host_side: str, bridge_side: str, delay_ms: str, peer_address: str | None = None) -> None:
    """Start, wait until the cable has been moved, and carry."""
    peer = None if peer_address is None else socket.inet_aton(peer_address)
    a, b = open_unbound(), open_unbound()
    say("ready")
    sys.stdin.readline()
    a.bind((host_side, ETH_P_ALL))
    b.bind((bridge_side, ETH_P_ALL))
    say("carrying")
    carry(a, b, float(delay_ms) / 2000, peer)


def say(word: str) -> None:
    """Tell the holder how far we are."""
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
