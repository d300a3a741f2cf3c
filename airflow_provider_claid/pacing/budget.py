"""The rules of the daily budget, as a pure class: what each UTC day has cost, and what it may cost."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

KEPT_DAYS = 10


@dataclass(frozen=True)
class Spend:
    """What one request costs, and how much a UTC day may cost in all; both in credits."""

    credits: int
    limit: int


class BudgetError(Exception):
    """The credits of a UTC day (ISO) do not suffice for a request; nothing was booked."""

    def __init__(self, day: str, spent: int, spend: Spend) -> None:
        super().__init__(
            f"{spent} of the {spend.limit} credits of {day} (UTC) are spent or booked, too many for {spend.credits} "
            "more; nothing was booked"
        )
        self.day = day
        self.spent = spent
        self.credits = spend.credits
        self.limit = spend.limit


class Budget:
    """Credits booked per UTC day (ISO)."""

    def __init__(self, days: Mapping[str, int] | None = None) -> None:
        self.days = dict(days or {})

    def copy(self) -> Budget:
        """Return the same budget, kept apart."""
        return Budget(self.days)

    def dump(self) -> bytes:
        """Return the budget as bytes: JSON, credits by day."""
        return json.dumps({"days": self.days}).encode()

    @classmethod
    def load(cls, dumped: bytes) -> Budget:
        """Return what was dumped; raises `ValueError` for what is no budget."""
        try:
            return cls({day: int(amount) for day, amount in json.loads(dumped)["days"].items()})
        except (AttributeError, KeyError, TypeError) as cause:
            raise ValueError("no budget") from cause

    def book(self, day: str, spend: Spend) -> None:
        """Book a request on its day; raises `BudgetError`, with nothing changed, if the day would cost too much."""
        spent = self.days.get(day, 0)
        if spent + spend.credits > spend.limit:
            raise BudgetError(day, spent, spend)
        self.days[day] = spent + spend.credits
        # By number, not by distance: a clock that is wrong for a while must not make us forget the real today.
        for oldest in sorted(self.days.keys() - {day})[: 1 - KEPT_DAYS]:
            del self.days[oldest]

    def refund(self, day: str, amount: int) -> None:
        """Give credits back to the day they were booked on; no day falls below 0."""
        if day in self.days:
            self.days[day] = max(0, self.days[day] - amount)

    def remember(self, seen: Budget) -> None:
        """Count no day for less than was seen before, when the place where it is kept was replaced meanwhile."""
        for day, amount in seen.days.items():
            self.days[day] = max(amount, self.days.get(day, 0))


def utc_day(timestamp: float) -> str:
    """Return the UTC day (ISO) of a moment in seconds since 1970."""
    return datetime.fromtimestamp(timestamp, UTC).date().isoformat()
