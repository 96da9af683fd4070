"""The words of the doctor."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from infra.errors import UpkeepError
from infra.findings import Status

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One thing that was looked at.

    Attributes:
        check: what, in a word or two.
        summary: one sentence.
        advice: what to do; empty when ok.
    """

    check: str
    status: Status
    summary: str
    advice: str = ""


def ok(check: str, summary: str) -> Diagnosis:
    """Nothing to do."""
    return Diagnosis(check, Status.OK, summary)


def guarded(check: str, look: Callable[[], Iterator[Diagnosis]], advice: str) -> Iterator[Diagnosis]:
    """Run a check; an expected error is critical, anything else leaves it unknown, and the others go on.

    Args:
        advice: what to do about an error that does not say it itself.
    """
    try:
        yield from look()
    except UpkeepError as error:
        yield Diagnosis(check, Status.CRITICAL, error.what_happened, error.advice or advice)
    except Exception as error:  # one check that breaks must not take the others' answers along
        log.debug("the check %s broke", check, exc_info=True)
        words = f"could not be looked at: {type(error).__name__}: {error}"
        yield Diagnosis(check, Status.UNKNOWN, words, advice)
