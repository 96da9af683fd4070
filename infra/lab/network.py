"""The lab's network: a bridge without an address, a namespace and a cable per host, and a leg to the machine.

The holder's network namespace has no address and no default route, so nothing leaves it. On the machine's
side a ``blackhole`` route with a high metric stands before the leg comes and goes after it: while the lab is
down, or half up, no packet for its addresses can follow the machine's default route.

A host's cable ends on the bridge as ``h<number>``. With latency it ends on a relay instead (``d<number>``),
whose other end (``r<number>``) is on the bridge.
"""

from __future__ import annotations

import time
from pathlib import Path

from infra.errors import PermanentError
from infra.lab.machine import sh
from infra.lab.plan import Lab, LabHost

BRIDGE = "br0"
BLACKHOLE_METRIC = "4000000000"


def subnet(lab: Lab) -> str:
    """The lab's network in CIDR form."""
    return f"198.18.{lab.octet}.0/24"


def leg_name(lab: Lab) -> str:
    """The machine's interface into the lab."""
    return f"upklab{lab.octet}"


def add_blackhole(lab: Lab) -> None:
    """Make sure that packets for the lab go nowhere while there is no leg."""
    sh("ip", "route", "replace", "blackhole", subnet(lab), "metric", BLACKHOLE_METRIC)


def remove_blackhole(lab: Lab) -> None:
    """Undo `add_blackhole`; does nothing when the route is not there."""
    sh("ip", "route", "del", "blackhole", subnet(lab), "metric", BLACKHOLE_METRIC, check=False)


def add_leg(lab: Lab, holder_pid: int) -> None:
    """Give the machine its way into the lab.

    Args:
        holder_pid: any process in the lab's network namespace, as seen by the caller.
    """
    leg = leg_name(lab)
    sh("ip", "link", "add", leg, "type", "veth", "peer", "name", "leg", "netns", str(holder_pid))
    sh("nsenter", "-t", str(holder_pid), "-n", "ip", "link", "set", "leg", "master", BRIDGE, "up")
    sh("ip", "addr", "add", f"{lab.gateway}/24", "dev", leg)
    sh("ip", "link", "set", leg, "up")


def remove_leg(lab: Lab, timeout_s: float = 10) -> None:
    """Wait until the leg is gone with its namespace, and remove it if it does not go."""
    link = Path("/sys/class/net") / leg_name(lab)
    deadline = time.monotonic() + timeout_s
    while link.exists():
        sh("ip", "link", "del", link.name, check=False)
        if time.monotonic() > deadline:
            raise PermanentError(f"the interface {link.name} cannot be removed")
        time.sleep(0.02)


def make_bridge() -> None:
    """Make the bridge, in the holder's namespace."""
    sh("ip", "link", "set", "lo", "up")
    sh("ip", "link", "add", BRIDGE, "type", "bridge", "forward_delay", "0", "stp_state", "0")
    sh("ip", "link", "set", BRIDGE, "up")


def connect(host: LabHost) -> None:
    """Make a host's network namespace and plug its cable into the bridge."""
    sh("ip", "netns", "add", host.name)
    sh("ip", "link", "add", f"h{host.number}", "type", "veth", "peer", "name", "host0", "netns", host.name)
    sh("ip", "link", "set", f"h{host.number}", "master", BRIDGE, "up")
    sh("ip", "-n", host.name, "link", "set", "lo", "up")


def set_addresses(lab: Lab, host: LabHost) -> None:
    """Give host0 the host's addresses and no others, as at the first boot."""
    lines = ["link set host0 up", "addr flush dev host0 scope global"]
    lines += [f"addr add {address}/24 dev host0" for address in lab.addresses(host)]
    sh("ip", "-n", host.name, "-batch", "-", stdin="\n".join(lines) + "\n")


def set_cable(host: LabHost, *, plugged: bool) -> None:
    """Cut a host off, or plug it in again."""
    sh("ip", "link", "set", f"h{host.number}", "up" if plugged else "down")


def add_detour(host: LabHost) -> tuple[str, str]:
    """Lay a second cable beside a host's, for a relay between the two; nothing passes over it yet.

    Returns:
        The interface at the host's side and the one at the bridge's side: the relay's two ends.
    """
    host_side, relay_side, bridge_side = f"h{host.number}", f"d{host.number}", f"r{host.number}"
    sh("ip", "link", "add", relay_side, "up", "type", "veth", "peer", "name", bridge_side)
    sh("ip", "link", "set", bridge_side, "up")
    return host_side, relay_side


def take_detour(host: LabHost) -> None:
    """Plug the second cable into the bridge in place of the host's; the bridge forwards over it at once."""
    swap = f"link set h{host.number} nomaster\nlink set r{host.number} master {BRIDGE}\n"
    sh("ip", "-batch", "-", stdin=swap)


def remove_detour(host: LabHost) -> None:
    """Plug the cable straight into the bridge again, however far the detour has come."""
    number = host.number
    swap = f"link set r{number} nomaster\nlink set h{number} master {BRIDGE}\nlink del d{number}\n"
    sh("ip", "-force", "-batch", "-", stdin=swap, check=False)
