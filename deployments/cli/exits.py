"""Exit codes of A14: they mean the same on every verb.

Health's own codes (0 ok, 1 warning, 2 critical, 3 unknown) come from `infra.findings.Status.exit_code`.
"""

from __future__ import annotations

from enum import IntEnum

from infra.errors import BadInventory, BadSetting, GateClosed, LockHeld, ServiceUnavailable, UpkeepError


class Exit(IntEnum):
    """sysexits(3) where it has a code for it."""

    OK = 0
    PARTIAL = 20
    USAGE = 64
    BAD_INVENTORY = 65
    UNAVAILABLE = 69
    BUG = 70
    LEASE_HELD = 75
    REFUSED = 77


def exit_code_of(error: UpkeepError) -> int:
    """The exit code that tells a script what happened; 2 (critical) for an error without one of its own."""
    codes: dict[type[UpkeepError], Exit] = {
        BadInventory: Exit.BAD_INVENTORY,
        BadSetting: Exit.USAGE,
        ServiceUnavailable: Exit.UNAVAILABLE,
        LockHeld: Exit.LEASE_HELD,
        GateClosed: Exit.REFUSED,
    }
    return next((code for kind, code in codes.items() if isinstance(error, kind)), 2)
