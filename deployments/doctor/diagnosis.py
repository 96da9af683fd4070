"""The words of the doctor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from infra.errors import UpkeepError
from infra.findings import Status


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


def guarded(check: str, look: Callable[[], Iterator[Diagnosis]]) -> Iterator[Diagnosis]:
    """Run a check; an expected error is critical, and says what to do after its last colon."""
    try:
        yield from look()
    except UpkeepError as error:
        problem, colon, advice = str(error).rpartition(": ")
        yield Diagnosis(check, Status.CRITICAL, problem if colon else advice, advice if colon else "")
