"""Which failures deserve another attempt: the error tree decides, once, for every task."""

from __future__ import annotations

from typing import Any

from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task

from infra.errors import TransientError


def is_transient(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:  # noqa: ARG001
    """A `retry_condition_fn`: true for `TransientError` only."""
    error = state.data if isinstance(state.data, BaseException) else getattr(state.data, "result", None)
    return isinstance(error, TransientError)
