"""A secret's name leads to the secret in one order, and never through a file that others may read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from infra.errors import SecretMissing, ServiceUnavailable
from infra.secrets import resolve_secret
from infra.settings import settings


class Vault:
    """A source that knows some secrets, or cannot be asked."""

    def __init__(self, known: dict[str, str], *, closed: bool = False) -> None:
        self.known = known
        self.closed = closed

    def place(self, name: str) -> str:
        return f"the vault's {name}"

    def look_up(self, name: str) -> SecretStr | None:
        if self.closed:
            raise ServiceUnavailable("it is closed")
        return SecretStr(self.known[name]) if name in self.known else None


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("UPKEEP_SECRETS_DIR", str(tmp_path))
    settings.cache_clear()
    yield tmp_path
    settings.cache_clear()


def write(directory: Path, name: str, content: bytes, mode: int = 0o600) -> Path:
    file = directory / name
    file.write_bytes(content)
    file.chmod(mode)
    return file


def test_the_variable_goes_before_the_file_and_the_file_before_other_sources(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = Vault({"shop-dsn": "from the vault"})
    assert resolve_secret("shop-dsn", [vault]).get_secret_value() == "from the vault"
    write(directory, "shop-dsn", b"from the file\n")
    assert resolve_secret("shop-dsn", [vault]).get_secret_value() == "from the file"
    monkeypatch.setenv("UPKEEP_SECRET_SHOP_DSN", "from the variable")
    assert resolve_secret("shop-dsn", [vault]).get_secret_value() == "from the variable"


@pytest.mark.parametrize(
    ("content", "secret"),
    [(b"x", "x"), (b"x\n", "x"), (b"x\r\n", "x"), (b"x\n\n", "x\n"), (b" x y \n", " x y ")],
)
def test_one_line_break_at_the_end_of_a_file_is_not_part_of_the_secret(
    directory: Path, content: bytes, secret: str
) -> None:
    write(directory, "s", content, 0o400)
    assert resolve_secret("s").get_secret_value() == secret


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o666])
def test_a_file_that_others_may_read_is_refused_even_if_another_source_knows_the_secret(
    directory: Path, mode: int
) -> None:
    write(directory, "s", b"x", mode)
    with pytest.raises(SecretMissing, match=f"has mode {mode:04o}: accepted: 0600 or 0400"):
        resolve_secret("s", [Vault({"s": "x"})])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_refused(directory: Path) -> None:
    os.chown(write(directory, "s", b"x"), 12345, 12345)
    with pytest.raises(SecretMissing, match="belongs to user 12345: accepted: yourself or root"):
        resolve_secret("s")


@pytest.mark.parametrize("content", [b"", b"\n", b"x" * 65537, b"\xff"])
def test_a_file_without_usable_text_is_refused(directory: Path, content: bytes) -> None:
    write(directory, "s", content)
    with pytest.raises(SecretMissing, match=r"is empty|is not UTF-8"):
        resolve_secret("s")


def test_what_is_no_regular_file_is_refused_without_waiting_for_it(directory: Path) -> None:
    os.mkfifo(directory / "pipe", 0o600)
    (directory / "folder").mkdir(mode=0o700)
    for name in ("pipe", "folder"):
        with pytest.raises(SecretMissing, match="is not a regular file"):
            resolve_secret(name)


def test_a_secret_that_is_nowhere_is_answered_with_every_place(directory: Path) -> None:
    with pytest.raises(SecretMissing) as caught:
        resolve_secret("shop-dsn", [Vault({}), Vault({}, closed=True)])
    assert str(caught.value) == (
        f"secret 'shop-dsn' is nowhere; looked at: UPKEEP_SECRET_SHOP_DSN, {directory / 'shop-dsn'}, "
        "the vault's shop-dsn, the vault's shop-dsn (cannot be asked: it is closed)"
    )


@pytest.mark.parametrize("name", ["", "../passwd", "a/b", "a b", "a.b", "x" * 64, "a\n"])
def test_what_is_no_name_is_never_looked_up(directory: Path, name: str) -> None:
    with pytest.raises(SecretMissing, match="is no secret's name"):
        resolve_secret(name, [Vault({name: "x"})])


def test_a_secret_does_not_show_when_it_is_printed(directory: Path) -> None:
    write(directory, "s", b"hunter2")
    assert "hunter2" not in f"{resolve_secret('s')} {resolve_secret('s')!r}"
