"""
What the work under way may have cost, whatever becomes of it.

An exception of any kind may strike between a request and the moment its answer is safe: an execution timeout, an
interrupt, a fault of our own. Whoever runs such work opens a bill, and reads from it whether trying again is free.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from airflow_provider_claid.api.errors import Billed


@dataclass
class Item:
    """One request: whether it was billed as far as is known now, what was made for it, and where its pictures are."""

    billed: Billed = "no"
    receipt: str = ""
    refused: bool = False
    pictures: int = 0
    credits: int = 0


@dataclass(eq=False)
class Bill:
    """
    The requests of one piece of work.

    `protected`: whatever interrupts it now, what is recorded keeps a retry from paying more than was allowed.
    """

    items: list[Item] = field(default_factory=list)
    protected: bool = False
    waits: list[float] = field(default_factory=list)
    """Seconds that each request waited for its turn."""
    copies: int = 0

    def add(self) -> Item:
        """Add a request that has not left yet."""
        self.items.append(Item())
        return self.items[-1]

    @property
    def billed(self) -> Billed:
        """The worst that is true of any request: "unknown" before "yes" before "no"."""
        found = {item.billed for item in self.items}
        return "unknown" if "unknown" in found else "yes" if "yes" in found else "no"

    @property
    def receipt(self) -> str:
        """Where what was paid for is, as far as Claid told."""
        return " ".join(item.receipt for item in self.items if item.receipt)


_current: ContextVar[Bill | None] = ContextVar("claid_bill", default=None)


@contextmanager
def opened_bill(bill: Bill | None = None) -> Iterator[Bill]:
    """Put the requests made inside, also by tasks started inside, on a bill of their own."""
    bill = bill or Bill()
    token = _current.set(bill)
    try:
        yield bill
    finally:
        _current.reset(token)


def current_bill() -> Bill:
    """Return the bill of the work under way; one that nobody reads if none was opened."""
    return _current.get() or Bill()
