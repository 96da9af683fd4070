"""A value that passes between tasks without being walked through.

Prefect looks for futures inside every dataclass, model and collection that is a task's argument; a fleet's
facts or some thousand findings cost it 0.2 s a task that way. It leaves other objects alone.
"""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T", covariant=True)


class Sealed(Generic[T]):
    """Holds one `value`; deliberately not a dataclass."""

    __slots__ = ("value",)

    def __init__(self, value: T) -> None:
        self.value = value
