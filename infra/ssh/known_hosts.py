"""Which key a host must show: known_hosts files, read as sshd(8) describes them, written atomically.

An unknown key is refused until a person trusts it; a key that differs from the recorded one, or is of another
type, is refused with the file and line that it contradicts. paramiko's own reader knows neither lines, nor
patterns, nor revocation, which is why this one exists.
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import hashlib
import hmac
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import paramiko

from infra.errors import HostKeyRefused
from infra.settings import settings


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a known_hosts file; `patterns` is its first field, `blob` the key as sent on the wire."""

    file: Path
    line: int
    marker: str
    patterns: tuple[str, ...]
    type: str
    blob: bytes

    def names(self, host: str) -> bool:
        """Whether the line speaks of `host` (as `infra.ssh.route.known_name` writes it)."""
        found = False
        for pattern in self.patterns:
            if pattern.startswith("!") and _matches(pattern[1:], host):
                return False
            found = found or _matches(pattern, host)
        return found

    @property
    def place(self) -> str:
        """``file:line``, as error messages say it."""
        return f"{self.file}:{self.line}"


def known_hosts_paths() -> tuple[Path, ...]:
    """The files that are read, ours first; `trust` writes the first one."""
    ours = settings().known_hosts or settings().home / "known_hosts"
    return (ours, Path.home() / ".ssh/known_hosts")


def read_entries(host: str) -> tuple[Entry, ...]:
    """Every line about `host` in every file, in order."""
    found: list[Entry] = []
    for path in known_hosts_paths():
        try:
            stat = path.stat()
        except OSError:
            continue
        by_name, others = _read_file(path, stat.st_mtime_ns, stat.st_size)
        found += by_name.get(host, ())
        found += (entry for entry in others if entry.names(host))
    return tuple(found)


def require_known(host: str, key: paramiko.PKey, entries: Iterable[Entry], *, inventory_name: str) -> None:
    """Refuse a key that nobody has trusted.

    Args:
        host: its name in known_hosts files.
        key: what it showed.
        entries: `read_entries(host)`.
        inventory_name: for the message.

    Raises:
        HostKeyRefused: revoked, changed, of another type than the recorded ones, or unknown.
    """
    shown = f"{key.get_name()} {fingerprint(key)}"
    plain: list[Entry] = []
    for entry in entries:
        if entry.marker == "@revoked" and entry.blob == key.asbytes():
            cause = f"{host} shows the key {shown}, which is revoked at {entry.place}"
            raise HostKeyRefused(cause, host=inventory_name)
        if not entry.marker:
            plain.append(entry)
    if any(entry.blob == key.asbytes() for entry in plain):
        return
    if plain:
        against = next((entry for entry in plain if entry.type == key.get_name()), plain[0])
        raise HostKeyRefused(
            f"{host} shows the key {shown}, which is not the one recorded at {against.place}: the host was "
            f"reinstalled, or somebody stands in between",
            host=inventory_name,
            advice=f"once you know which: `upkeep hosts trust {inventory_name} --replace`",
        )
    raise HostKeyRefused(
        f"{host} shows the key {shown}, which nobody has trusted yet",
        host=inventory_name,
        advice=f"`upkeep hosts trust {inventory_name}`",
    )


def fingerprint(key: paramiko.PKey) -> str:
    """SHA256 fingerprint, written as ssh-keygen -l writes it."""
    digest = hashlib.sha256(key.asbytes()).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def record(host: str, key: paramiko.PKey, *, replace: bool) -> Path:
    """Write a key into our own file, durably and readable by us alone.

    Args:
        host: its name in known_hosts files.
        key: the key to trust.
        replace: take out what our file says about the host so far.

    Returns:
        The file that was written.
    """
    path = known_hosts_paths()[0]
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(path):
        lines = path.read_text(errors="surrogateescape").splitlines() if path.exists() else []
        if replace:
            lines = [line for n, line in enumerate(lines, 1) if not _is_about(path, n, line, host)]
        lines.append(f"{host} {key.get_name()} {key.get_base64()}")
        _write_durably(path, "\n".join(lines) + "\n")
    return path


def _is_about(path: Path, number: int, line: str, host: str) -> bool:
    entry = _parse_line(path, number, line)
    return entry is not None and not entry.marker and entry.names(host)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Two `trust` at once must not lose each other's line."""
    with path.with_name(path.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _write_durably(path: Path, text: str) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)  # mkstemp makes it 0600
    try:
        with os.fdopen(descriptor, "w", errors="surrogateescape") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


@lru_cache(maxsize=8)
def _read_file(path: Path, mtime_ns: int, size: int) -> tuple[dict[str, list[Entry]], list[Entry]]:  # noqa: ARG001
    """Entries of plain names by name, and the others (hashes, wildcards, several names with a negation)."""
    by_name: dict[str, list[Entry]] = {}
    others: list[Entry] = []
    for number, line in enumerate(path.read_text(errors="surrogateescape").splitlines(), 1):
        entry = _parse_line(path, number, line)
        if entry is None:
            continue
        if any(set(pattern) & set("*?!|") for pattern in entry.patterns):
            others.append(entry)
        else:
            for name in entry.patterns:
                by_name.setdefault(name, []).append(entry)
    return by_name, others


def _parse_line(path: Path, number: int, line: str) -> Entry | None:
    """A line as an entry; None for comments and lines that are none, which OpenSSH ignores as well."""
    fields = line.split()
    marker = fields.pop(0) if fields and fields[0].startswith("@") else ""
    if len(fields) < 3 or fields[0].startswith("#"):
        return None
    try:
        blob = base64.b64decode(fields[2], validate=True)
    except binascii.Error:
        return None
    names = fields[0] if fields[0].startswith("|1|") else fields[0].lower()
    return Entry(path, number, marker, tuple(names.split(",")), fields[1], blob)


def _matches(pattern: str, host: str) -> bool:
    """ssh_config(5), PATTERNS: only * and ? are special; brackets belong to ``[host]:port``."""
    if pattern.startswith("|1|"):
        return _hashes(pattern, host)
    regex = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(regex, host) is not None


def _hashes(pattern: str, host: str) -> bool:
    """Whether a hashed name is that of `host`: HMAC-SHA1 keyed with the salt, as ssh-keygen -H writes it."""
    try:
        salt, digest = (base64.b64decode(part) for part in pattern[3:].split("|"))
    except (ValueError, binascii.Error):
        return False
    return hmac.compare_digest(hmac.new(salt, host.encode(), hashlib.sha1).digest(), digest)
