"""Secrets do not stand in an inventory: what looks like one is a mistake, and is never printed back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from infra.inventory.document import Path, walk

BY_NAME = "the name of a secret, in a key that ends with _secret; its value stands elsewhere"
SECRET_KEY = re.compile(
    r"(^|[_-])(password|passwd|passphrase|pass|token|secret|secrets|credential|credentials|"
    r"(api|access|private|secret|encryption)[_-]?key)$",
    re.IGNORECASE,
)
NAMING_KEYS = frozenset({"dsn_secret", "notify_secret", "url_secrets"})
FREE_KEYS = frozenset(
    {"expect_headers", "backends", "critical_units"}
)  # tables whose keys are the user's own words
PLAIN_SCHEMES = frozenset({"http", "https", "tcp", "redis", "rediss"})
HOOKS = re.compile(
    r"https?://([\w.-]+/services/T\w+/B\w+/\w+|[\w.-]*discord\w*\.com/api/webhooks/)", re.IGNORECASE
)
IN_TEXT: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY"), "a public key; the private one stays with its owner"),
    (re.compile(r"://[^\s/?#]*@"), f"an address without a login in it, or {BY_NAME}"),
    (re.compile(r"(^|[\s;?&])(password|passwd|pwd|passphrase)\s*=\s*[^\s]", re.IGNORECASE), BY_NAME),
    (
        re.compile(r"[?&](\w*token|\w*secret|(api|access)_?key|sig|signature|auth)=[^&\s]", re.IGNORECASE),
        BY_NAME,
    ),
    (HOOKS, BY_NAME),
)
URL = re.compile(r"^(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://", re.IGNORECASE)


def find_leaks(value: Any, under: Path = ()) -> Iterator[tuple[Path, str]]:
    """Where a secret stands in a table, list or single value, and what is accepted there instead.

    Args:
        value: what to look through.
        under: the path that it stands at.
    """
    for steps, found in walk(value):
        path = (*under, *steps)
        if isinstance(found, str | int | float) and is_secret_key(path):
            yield path, BY_NAME
        elif isinstance(found, str) and (accepted := leak_in(found) or _foreign_url(path, found)):
            yield path, accepted


def leak_in(text: str) -> str | None:
    """What is accepted instead of this text, if it carries a secret; None if it carries none that we know."""
    return next((accepted for pattern, accepted in IN_TEXT if pattern.search(text)), None)


def _foreign_url(path: Path, text: str) -> str | None:
    # postgresql://, slack://, mailto:// ...: connection strings and Apprise URLs, with a password or without
    url = URL.match(text)
    is_plain = url is None or url["scheme"].lower() in PLAIN_SCHEMES or path[-1:] == ("url",)
    return None if is_plain else BY_NAME


def is_secret_key(path: Path) -> bool:
    """Whether the key at the end of the path, or of the list that it is in, is called like a secret."""
    named = [step for step in path if isinstance(step, str)]
    if not named or named[-1] in NAMING_KEYS or (len(named) > 1 and named[-2] in FREE_KEYS):
        return False
    return bool(SECRET_KEY.search(named[-1]))
