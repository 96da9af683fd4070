"""Settings come from the environment, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.errors import BadSetting
from infra.settings import Settings, ensure_home, settings


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    settings.cache_clear()
    yield
    settings.cache_clear()


def test_paths_become_absolute_and_empty_variables_do_not_count(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/kim")
    for name, value in {
        "INVENTORY": "estate.toml",
        "SECRETS_DIR": "~/secrets",
        "FANOUT": "",
        "HOME": "",
    }.items():
        monkeypatch.setenv(f"UPKEEP_{name}", value)
    read = Settings()
    assert (read.inventory, read.secrets_dir) == (tmp_path / "estate.toml", Path("/home/kim/secrets"))
    assert (read.fanout, read.home) == (64, Path("/home/kim/.local/state/upkeep"))


@pytest.mark.parametrize(
    ("name", "value", "accepted"),
    [
        ("UPKEEP_FANOUT", "many", "a whole number, 1 to 1024"),
        ("UPKEEP_CONNECT_FANOUT", "0", "a whole number, 1 to 256"),
        ("UPKEEP_CONNECT_TIMEOUT_S", "nan", "a number, more than 0, at most 600"),
        ("UPKEEP_COMMAND_TIMEOUT_S", "-1", "a number, more than 0, at most 86400"),
        ("UPKEEP_PORT", "99999", "a whole number, 1 to 65535"),
    ],
)
def test_a_wrong_value_is_answered_with_variable_value_and_what_is_accepted(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, accepted: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(BadSetting) as caught:
        settings()
    assert str(caught.value) == f"{name} = '{value}': accepted: {accepted}"


def test_every_wrong_value_is_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPKEEP_FANOUT", "many")
    monkeypatch.setenv("UPKEEP_PORT", "none")
    with pytest.raises(BadSetting) as caught:
        settings()
    assert len(caught.value.mistakes) == 2


def test_the_stores_address_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPKEEP_DATABASE_URL", "mysql://u:hunter2@db/upkeep")
    with pytest.raises(
        BadSetting, match=r"UPKEEP_DATABASE_URL = \(hidden\): accepted: .*postgresql://"
    ) as caught:
        settings()
    assert "hunter2" not in str(caught.value)
    monkeypatch.setenv("UPKEEP_DATABASE_URL", "postgresql+psycopg://u:hunter2@db/upkeep")
    assert "hunter2" not in repr(settings())


def test_the_state_directory_is_made_and_closed_to_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    home = tmp_path / "state/upkeep"
    monkeypatch.setenv("UPKEEP_HOME", str(home))
    assert ensure_home() == home
    home.chmod(0o755)
    ensure_home()
    assert home.stat().st_mode & 0o777 == 0o700


def test_a_state_directory_that_cannot_be_made_is_answered_with_its_variable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("UPKEEP_HOME", str(tmp_path / "file/upkeep"))
    with pytest.raises(BadSetting, match=r"UPKEEP_HOME = .*: Not a directory; accepted: a directory"):
        ensure_home()
