"""What can go wrong, and whether another attempt may help.

The tree decides what is retried; no task decides for itself::

    UpkeepError                .host, .reason; str() is the sentence that a pager shows
    ├── TransientError         retried
    │   ├── Unreachable        the host did not answer, or the connection died twice
    │   ├── LockHeld           somebody else holds what we need
    │   ├── Throttled          asked to come back later
    │   └── NotYetHealthy      it may still come up
    ├── PermanentError         never retried
    │   ├── CommandFailed      a command ended with an exit code that was not expected
    │   ├── HostKeyRefused     the host's key is unknown, or is not the recorded one
    │   ├── AuthenticationRefused  the host let nobody in with the keys that we have
    │   ├── BadInventory       every mistake of the file at once
    │   ├── BadSetting         environment variables or parameters with values that cannot be used
    │   ├── SecretMissing      a secret's name resolves nowhere, or its file is readable by others
    │   ├── ServiceUnavailable Prefect's API or the store does not answer: the verb ends with 69
    │   └── ChecksumMismatch
    └── GateClosed             we refused to act

Adapters translate a library's errors once, at the edge (``raise Unreachable(...) from error``).
"""

from __future__ import annotations


class UpkeepError(Exception):
    """Base of all errors that Upkeep raises on purpose.

    Args:
        reason: one sentence that says what happened and, where it can, what to do.
        host: the inventory name of the host concerned, if one is.
        advice: what to do, where it is known apart from the reason; `str()` appends it.
    """

    def __init__(self, reason: str, *, host: str | None = None, advice: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.host = host
        self.advice = advice

    @property
    def what_happened(self) -> str:
        """The sentence without the advice."""
        return f"{self.host}: {self.reason}" if self.host else self.reason

    def __str__(self) -> str:
        return f"{self.what_happened}: {self.advice}" if self.advice else self.what_happened


class TransientError(UpkeepError):
    """Another attempt may succeed."""


class Unreachable(TransientError):
    """The host could not be talked to; the reason names address and cause."""


class LockHeld(TransientError):
    """Somebody else holds what we need; the reason names the holder."""


class Throttled(TransientError):
    """The other side asked us to come back later."""


class NotYetHealthy(TransientError):
    """The thing exists and may still come up."""


class PermanentError(UpkeepError):
    """Another attempt would end the same way."""


class CommandFailed(PermanentError):
    """A command on a host ended with an exit code that was not expected."""

    def __init__(self, command: str, exit_code: int, stderr: str, *, host: str | None = None) -> None:
        last = stderr.strip().splitlines()[-1] if stderr.strip() else "no message"
        super().__init__(f"`{command}` ended with {exit_code}: {last}", host=host)
        self.command = command
        self.exit_code = exit_code
        self.stderr = stderr


class HostKeyRefused(PermanentError):
    """The host's key is unknown (`upkeep hosts trust`), or differs from the recorded one."""


class AuthenticationRefused(PermanentError):
    """The host accepted none of the keys that we offered."""


class SecretMissing(PermanentError):
    """A secret's name resolves nowhere, or its file is readable by others."""


class ServiceUnavailable(PermanentError):
    """Prefect's API or the store does not answer; the reason says which command starts it."""


class ChecksumMismatch(PermanentError):
    """What arrived is not what was promised."""


class BadInventory(PermanentError):
    """The inventory is not valid.

    Args:
        mistakes: one line per mistake: file, key, value, what is accepted. At least one.
    """

    def __init__(self, mistakes: tuple[str, ...]) -> None:
        count = f"{len(mistakes)} mistake" + ("s" if len(mistakes) > 1 else "")
        super().__init__(f"the inventory has {count}:\n" + "\n".join(f"  {m}" for m in mistakes))
        self.mistakes = mistakes


class BadSetting(PermanentError):
    """Environment variables or parameters have values that cannot be used.

    Args:
        mistakes: one line per variable or parameter: name, value, what is accepted. At least one.
    """

    def __init__(self, mistakes: tuple[str, ...]) -> None:
        super().__init__("; ".join(mistakes))
        self.mistakes = mistakes


class GateClosed(UpkeepError):
    """A check refused to let the procedure go on; nothing was done after it."""
