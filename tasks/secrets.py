"""Prefect blocks as a source of secrets: the block ``upkeep-NAME`` of the type Secret."""

from __future__ import annotations

from typing import Any, cast

import httpx
from prefect.blocks.system import Secret
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import get_current_settings
from pydantic import SecretStr

from infra.errors import SecretMissing, ServiceUnavailable
from infra.secrets import resolve_secret


class PrefectBlocks:
    """Looks a secret up on the Prefect server that this process talks to; starts none."""

    def place(self, name: str) -> str:
        """See `infra.secrets.SecretSource`."""
        return f"the Prefect block {block_name(name)}"

    def look_up(self, name: str) -> SecretStr | None:
        """See `infra.secrets.SecretSource`.

        Raises:
            ServiceUnavailable: no server is configured, or it does not answer or lets us in.
            SecretMissing: the block holds something else than text.
        """
        if not get_current_settings().api.url:  # Prefect would start a server of its own
            raise ServiceUnavailable("PREFECT_API_URL is not set")
        try:
            block = cast("Secret[Any]", Secret.load(block_name(name)))
        except ValueError:  # what Prefect makes of a 404
            return None
        except (httpx.HTTPError, PrefectHTTPStatusError) as error:
            raise ServiceUnavailable(f"the Prefect server: {error or type(error).__name__}") from error
        value = block.value.get_secret_value()  # not .get(): that reads "123" as a number
        if not isinstance(value, str):
            raise SecretMissing(f"{self.place(name)} holds no text: accepted: a Secret block with a string")
        return SecretStr(value)


def block_name(name: str) -> str:
    """The block of a secret; Prefect accepts lower case, digits and dashes."""
    return f"upkeep-{name.lower().replace('_', '-')}"


def read_secret(name: str) -> SecretStr:
    """Find a secret in the environment, the secrets directory, or a Prefect block.

    Raises:
        SecretMissing: it is in none of them, or its file must not be used.
    """
    return resolve_secret(name, extra=(PrefectBlocks(),))
