"""First contact: fetch the key that a host shows, say how it stands to what is recorded, and record it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import paramiko

from infra.errors import HostKeyRefused
from infra.inventory import Host
from infra.ssh.connecting import fetch_host_key
from infra.ssh.known_hosts import fingerprint, read_entries, record, require_known
from infra.ssh.pool import link_of
from infra.ssh.route import plan_route


class KeyState(StrEnum):
    """How a key stands to the known_hosts files."""

    KNOWN = "known"
    UNKNOWN = "unknown"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class Contact:
    """What a host showed.

    Attributes:
        known_as: its name in known_hosts files.
        state: how the key stands to them.
        objection: why a changed key is refused; empty otherwise.
    """

    host: Host
    known_as: str
    key: paramiko.PKey
    state: KeyState
    objection: str = ""

    @property
    def fingerprint(self) -> str:
        """``ssh-ed25519 SHA256:...``, as ssh-keygen -l writes it."""
        return f"{self.key.get_name()} {fingerprint(self.key)}"


def make_contact(host: Host) -> Contact:
    """Fetch a host's key, without logging in.

    Raises:
        Unreachable, HostKeyRefused: a jump host on the way could not be entered, or see infra.errors.
    """
    route = plan_route(host)
    key = fetch_host_key(route, link_of(route.via).open_passage if route.via else None)
    entries = read_entries(route.known_as)
    try:
        require_known(route.known_as, key, entries, inventory_name=host.name)
    except HostKeyRefused as refusal:
        state = KeyState.CHANGED if entries else KeyState.UNKNOWN
        return Contact(host, route.known_as, key, state, refusal.reason if entries else "")
    return Contact(host, route.known_as, key, KeyState.KNOWN)


def trust(contact: Contact, *, replace: bool = False) -> Path:
    """Record the key of a contact.

    Args:
        contact: what the host showed and a person has agreed to.
        replace: record it in place of another key.

    Returns:
        The file that it was written to.

    Raises:
        HostKeyRefused: another key is recorded, and `replace` was not asked for.
    """
    if contact.state is KeyState.CHANGED and not replace:
        raise HostKeyRefused(contact.objection, host=contact.host.name)
    return record(contact.known_as, contact.key, replace=replace)


def recorded_at(host: Host) -> str | None:
    """Where a host's key is recorded, ``file:line``; None when it is nowhere."""
    entries = [entry for entry in read_entries(plan_route(host).known_as) if not entry.marker]
    return entries[0].place if entries else None
