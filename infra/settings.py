"""What the environment says: one frozen object, and how a secret's name becomes a secret (A12)."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Environment variables with the prefix ``UPKEEP_``; descriptions are the README's table."""

    model_config = SettingsConfigDict(env_prefix="UPKEEP_", frozen=True, extra="ignore")

    home: Path = Field(Path.home() / ".local/state/upkeep", description="State of this installation (0700).")
    inventory: Path | None = Field(None, description="The inventory; default: the embedded one, this machine.")
    database_url: str | None = Field(None, description="SQLAlchemy URL of the store; default: SQLite in home.")
    secrets_dir: Path | None = Field(None, description="Directory with one 0600 file per secret.")
    known_hosts: Path | None = Field(None, description="Host keys; default: known_hosts in home, then ~/.ssh's.")
    ssh_config: Path | None = Field(None, description="OpenSSH client configuration; default: ~/.ssh/config.")
    connect_fanout: int = Field(16, ge=1, le=256, description="Hosts that are being connected to at once.")
    fanout: int = Field(64, ge=1, le=1024, description="Hosts that are being waited for at once.")
    connect_timeout_s: float = Field(5, gt=0, description="Longest time to connect, banner and login included.")
    command_timeout_s: float = Field(60, gt=0, description="Longest time of one command unless it says otherwise.")
    lab_home: Path | None = Field(None, description="State of labs; default: /var/lib/upkeep-lab.")
    lab_cache: Path | None = Field(None, description="Cached images of labs; default: /var/cache/upkeep-lab.")


@cache
def settings() -> Settings:
    """The process's settings, read once."""
    return Settings()
