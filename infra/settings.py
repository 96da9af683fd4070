"""What the environment says: one frozen object, checked when it is first read."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from infra.errors import BadSetting

PREFIX = "UPKEEP_"


def _absolute(path: Path) -> Path:
    try:
        return path.expanduser().absolute()
    except RuntimeError as error:  # ~nobody-of-that-name/
        raise ValueError(f"a path ({error})") from error


AnyPath = Annotated[Path, AfterValidator(_absolute)]


class Settings(BaseSettings):
    """Environment variables with the prefix ``UPKEEP_``; descriptions are the README's table.

    An empty variable counts as not set. ``~`` and relative paths become absolute when they are read.

    Raises:
        BadSetting: every variable whose value cannot be used, with what is accepted.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="ignore", allow_inf_nan=False
    )

    home: AnyPath = Field(
        default_factory=lambda: Path.home() / ".local/state/upkeep",
        description="State of this installation (0700); default: ~/.local/state/upkeep.",
    )
    inventory: AnyPath | None = Field(
        None, description="The inventory; default: the embedded one, this machine."
    )
    database_url: str | None = Field(
        None,
        pattern=r"^(sqlite|postgresql)(\+[a-z0-9]+)?://",
        repr=False,  # it may carry a password
        description="SQLAlchemy URL of the store, sqlite:// or postgresql://; default: SQLite in home.",
    )
    secrets_dir: AnyPath | None = Field(None, description="Directory with one 0600 file per secret.")
    known_hosts: AnyPath | None = Field(
        None, description="Host keys; default: known_hosts in home, then ~/.ssh's."
    )
    ssh_config: AnyPath | None = Field(
        None, description="OpenSSH client configuration; default: ~/.ssh/config."
    )
    connect_fanout: int = Field(16, ge=1, le=256, description="Hosts that are being connected to at once.")
    fanout: int = Field(64, ge=1, le=1024, description="Hosts that are being waited for at once.")
    connect_timeout_s: float = Field(
        5, gt=0, le=600, description="Longest time to connect, banner and login included."
    )
    command_timeout_s: float = Field(
        60, gt=0, le=86400, description="Longest time of one command unless it says otherwise."
    )
    port: int = Field(4200, ge=1, le=65535, description="Port of the Prefect server that `upkeep up` starts.")
    lab_home: AnyPath | None = Field(None, description="State of labs; default: /var/lib/upkeep-lab.")
    lab_cache: AnyPath | None = Field(
        None, description="Cached images of labs; default: /var/cache/upkeep-lab."
    )

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise BadSetting(_mistakes(error)) from error


def _mistakes(error: ValidationError) -> tuple[str, ...]:
    """One line per variable; the store's URL is never printed back."""
    from infra.inventory.mistakes import words_at

    schema = Settings.model_json_schema()
    lines = []
    for each in error.errors(include_url=False):
        field = str(each["loc"][0])
        value = "(hidden)" if field == "database_url" else repr(each["input"])
        own = str(each["ctx"]["error"]) if each["type"] == "value_error" else ""
        lines.append(f"{PREFIX}{field.upper()} = {value}: accepted: {own or words_at(schema, (field,))}")
    return tuple(lines)


@cache
def settings() -> Settings:
    """The process's settings, read once.

    Raises:
        BadSetting: see `Settings`.
    """
    return Settings()


def ensure_home() -> Path:
    """The state directory, created where it is missing, and closed to everybody else (0700).

    Raises:
        BadSetting: it cannot be created or closed.
    """
    home = settings().home
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        home.chmod(0o700)
    except OSError as error:
        reason = f"{PREFIX}HOME = {str(home)!r}: {error.strerror}; accepted: a directory that you own"
        raise BadSetting((reason,)) from error
    return home
