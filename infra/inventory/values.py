"""The kinds of text that stand in an inventory; each refuses with the sentence that says what it accepts."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Annotated
from urllib.parse import urlsplit

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from pydantic import AfterValidator, Field

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
SECRET_NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$"  # noqa: S105 - a pattern; - becomes _ in the variable's name


def _matching(pattern: str, accepted: str) -> Callable[[str], str]:
    compiled = re.compile(pattern.removesuffix("$") + r"\Z")

    def check(value: str) -> str:
        if not compiled.match(value):
            raise ValueError(accepted)
        return value

    return check


def _check_regex(value: str) -> str:
    try:
        re.compile(value)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"a regular expression (this one: {error})") from error
    return value


def _check_ip(value: str) -> str:
    try:
        ipaddress.ip_address(value)
    except ValueError as error:
        raise ValueError("an IPv4 or IPv6 address") from error
    return value


def _check_resolver(value: str) -> str:
    accepted = "ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT with an IP address and a port of 1 to 65535"
    try:
        split_resolver(value)
    except ValueError as error:
        raise ValueError(accepted) from error
    return value


def split_resolver(value: str) -> tuple[str, int]:
    """Take a resolver apart: ``192.0.2.1``, ``192.0.2.1:5353``, ``2001:db8::1`` or ``[2001:db8::1]:5353``.

    Returns:
        The address and the port, 53 where none is given.

    Raises:
        ValueError: it is none of these.
    """
    bracketed = re.fullmatch(r"\[(?P<address>[^\]]+)\](?::(?P<port>\d{1,5}))?", value)
    plain = re.fullmatch(r"(?P<address>[^:]+):(?P<port>\d{1,5})", value)
    parts = bracketed or plain
    address, port = (parts["address"], int(parts["port"] or 53)) if parts else (value, 53)
    if not 1 <= port <= 65535:
        raise ValueError(f"no port: {port}")
    return str(ipaddress.ip_address(address)), port


def _url_check(
    schemes: tuple[str, ...], accepted: str, *, port_needed: tuple[str, ...]
) -> Callable[[str], str]:
    def check(value: str) -> str:
        try:
            parts = urlsplit(value)
            port = parts.port
        except ValueError as error:
            raise ValueError(accepted) from error
        usable = parts.scheme in schemes and parts.hostname and port != 0 and not re.search(r"\s", value)
        if not usable or (parts.scheme in port_needed and port is None):
            raise ValueError(accepted)
        if "@" in parts.netloc:
            raise ValueError(f"{accepted}, without a login in it")
        return value

    return check


def _check_public_key(value: str) -> str:
    accepted = "one OpenSSH public key, as in a .pub file: TYPE BASE64 [COMMENT]"
    try:
        load_ssh_public_key(value.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError(accepted) from error
    if "\n" in value.strip():
        raise ValueError(accepted)
    return value


Name = Annotated[
    str,
    AfterValidator(
        _matching(NAME, "a name of 1 to 63 letters, digits, dots, _ and -, beginning with a letter or digit")
    ),
    Field(json_schema_extra={"pattern": NAME}),
]
SecretName = Annotated[
    str,
    AfterValidator(
        _matching(
            SECRET_NAME, "the name of a secret (1 to 63 letters, digits, _ and -), never the secret itself"
        )
    ),
    Field(json_schema_extra={"pattern": SECRET_NAME}),
]
Regex = Annotated[str, AfterValidator(_check_regex), Field(json_schema_extra={"format": "regex"})]
IpAddress = Annotated[str, AfterValidator(_check_ip)]
Resolver = Annotated[str, AfterValidator(_check_resolver)]
PublicKey = Annotated[str, AfterValidator(_check_public_key)]
EndpointUrl = Annotated[
    str,
    AfterValidator(
        _url_check(
            ("http", "https", "tcp"), "http://..., https://... or tcp://HOST:PORT", port_needed=("tcp",)
        )
    ),
    Field(json_schema_extra={"pattern": r"^(https?|tcp)://.+"}),
]
CacheUrl = Annotated[
    str,
    AfterValidator(
        _url_check(("redis", "rediss"), "redis://HOST:PORT or rediss://HOST:PORT", port_needed=())
    ),
    Field(json_schema_extra={"pattern": r"^rediss?://.+"}),
]
AbsolutePath = Annotated[
    str,
    AfterValidator(_matching(r"^/[^\x00-\x1f]*$", "an absolute path")),
    Field(json_schema_extra={"pattern": r"^/"}),
]
Unit = Annotated[
    str,
    AfterValidator(
        _matching(
            r"^[A-Za-z0-9:_.\\@-]+\.(service|socket|target|timer|mount|automount|path|slice|scope|swap|device)$",
            "a systemd unit with its suffix, e.g. nginx.service",
        )
    ),
    Field(json_schema_extra={"pattern": r"\.[a-z]+$"}),
]
Address = Annotated[
    str,
    AfterValidator(
        _matching(r"^[A-Za-z0-9_:][A-Za-z0-9_:.%-]{0,254}$", "an IP address or a host name, without a port")
    ),
]
