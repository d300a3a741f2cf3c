"""Retry policies (Airflow 3.3 and newer)."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import RetryDecision, RetryPolicy

from airflow_provider_claid.api.errors import ClaidError
from airflow_provider_claid.api.retry_after import bounded

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

PATIENCE = 5.0
"""Seconds that a task with this policy waits for a busy server itself; a longer wait is the retry's."""


class ClaidRetryPolicy(RetryPolicy):
    """
    Retry what costs nothing, when the server says, and nothing else; for `retry_policy=` of any task that uses Claid.

    A request that was refused by the rate limit, did not leave, or is paid and recorded but not delivered is retried,
    after the time that the server asked for, at most an hour, or else the task's `retry_delay`; the wait holds no
    worker slot. What cannot be mended, or may have been billed, fails at once. Other exceptions go by the task's own
    settings. It never retries more often than `retries` says.

    Below Airflow 3.3 there are no policies: the same exceptions are retried by their type, after `retry_delay`.
    """

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        """Decide by the kind of `ClaidError`."""
        if not isinstance(exception, ClaidError):
            return RetryDecision.default()
        reason = f"{type(exception).__name__}: billed {exception.billed}"
        if not exception.retryable:
            return RetryDecision.fail(reason)
        seconds = bounded(exception.retry_after)
        wait = None if seconds is None else timedelta(seconds=seconds)
        return RetryDecision.retry(wait, reason)
