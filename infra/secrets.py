"""How the name of a secret becomes the secret.

The order is the law: the variable ``UPKEEP_SECRET_NAME``, the file ``$UPKEEP_SECRETS_DIR/NAME``, then the
sources that the caller brings (Prefect blocks, `tasks.secrets`). The first that knows the name answers. A
file that others may read, or that is somebody else's, ends the search: a fault to mend, not to pass by.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from pydantic import SecretStr

from infra.errors import SecretMissing, ServiceUnavailable
from infra.inventory.values import SECRET_NAME
from infra.settings import settings

LARGEST_BYTES = 65536  # a key or a connection string, not a document


class SecretSource(Protocol):
    """A further place where secrets are kept."""

    def place(self, name: str) -> str:
        """Where it looks for this name, in words that follow "looked at"."""
        ...

    def look_up(self, name: str) -> SecretStr | None:
        """The secret; None when this place does not know the name.

        Raises:
            ServiceUnavailable: the place cannot be asked.
        """
        ...


def resolve_secret(name: str, extra: Sequence[SecretSource] = ()) -> SecretStr:
    """Find a secret by its name.

    Args:
        name: letters, digits, - and _; as the inventory writes it.
        extra: places to ask after the environment and the secrets directory, in this order.

    Raises:
        SecretMissing: no place knows it (all are named), or its file must not be used.
    """
    if not re.fullmatch(SECRET_NAME, name):
        raise SecretMissing(f"{name!r} is no secret's name: accepted: 1 to 63 letters, digits, - and _")
    variable = secret_variable(name)
    if value := os.environ.get(variable):
        return SecretStr(value)
    directory = settings().secrets_dir
    if directory and (found := _read_file(directory / name)) is not None:
        return SecretStr(found)
    looked_at = [
        variable,
        str(directory / name) if directory else "no directory (UPKEEP_SECRETS_DIR is not set)",
    ]
    for source in extra:
        try:
            secret = source.look_up(name)
        except ServiceUnavailable as error:
            looked_at.append(f"{source.place(name)} (cannot be asked: {error.reason})")
            continue
        if secret is not None:
            return secret
        looked_at.append(source.place(name))
    raise SecretMissing(f"secret {name!r} is nowhere; looked at: {', '.join(looked_at)}")


def secret_variable(name: str) -> str:
    """The environment variable that holds the secret, e.g. ``UPKEEP_SECRET_SHOP_DSN`` for ``shop-dsn``."""
    return f"UPKEEP_SECRET_{name.upper().replace('-', '_')}"


def _read_file(path: Path) -> str | None:
    """The file's text without one trailing line break; None when there is no such file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a FIFO must not block
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SecretMissing(f"{path} cannot be read: {error.strerror}") from error
    try:
        _require_private(path, os.fstat(descriptor))
        content = os.read(descriptor, LARGEST_BYTES + 1)
    finally:
        os.close(descriptor)
    try:
        text = content.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise SecretMissing(f"{path} is not UTF-8 text") from error
    if not text or len(content) > LARGEST_BYTES:
        raise SecretMissing(f"{path} is empty, or longer than {LARGEST_BYTES} bytes")
    return text


def _require_private(path: Path, status: os.stat_result) -> None:
    # Checked on the open file: between a check of the name and the read another file could take its place
    if not stat.S_ISREG(status.st_mode):
        raise SecretMissing(f"{path} is not a regular file")
    if status.st_uid not in (os.geteuid(), 0):
        raise SecretMissing(
            f"{path} belongs to user {status.st_uid}: accepted: yourself or root",
            advice=f"chown {os.geteuid()} {path}",
        )
    if status.st_mode & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        raise SecretMissing(f"{path} has mode {mode:04o}: accepted: 0600 or 0400", advice=f"chmod 600 {path}")
