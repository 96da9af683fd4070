"""Delay what a host sends and receives: frames are carried between two interfaces, late.

Stands in for ``tc qdisc netem``, which many kernels lack. Half of the delay is added each way, so that a
round trip is longer by all of it. Frames keep their order among those of the same delay. Run by the holder as
``python -m infra.lab.relay HOST_SIDE BRIDGE_SIDE DELAY_MS [PEER_ADDRESS]``.

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


def open_interface(name: str) -> socket.socket:
    """A non-blocking packet socket on an interface, with offload headers kept."""
    packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    packets.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    packets.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
    packets.bind((name, ETH_P_ALL))
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


def carry(host_side: str, bridge_side: str, one_way_s: float, peer: bytes | None) -> None:
    """Carry frames both ways until the process is ended."""
    a, b = open_interface(host_side), open_interface(bridge_side)
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


if __name__ == "__main__":
    address = socket.inet_aton(sys.argv[4]) if len(sys.argv) > 4 else None
    carry(sys.argv[1], sys.argv[2], float(sys.argv[3]) / 2000, address)
