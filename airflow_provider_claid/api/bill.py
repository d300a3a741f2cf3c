"""
What the work under way may have cost, whatever becomes of it.

An exception of any kind may strike between a request and the moment its answer is safe: an execution timeout, an
interrupt, a fault of our own. Whoever runs such work opens a bill, and reads from it whether trying again is free.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from airflow_provider_claid.api.errors import Billed, ClaidError


@dataclass
class Item:
    """One request: whether it was billed as far as is known now, what was made for it, and where its pictures are."""

    billed: Billed = "no"
    receipt: str = ""
    request_id: str | None = None
    refused: bool = False
    pictures: int = 0
    credits: int = 0


@dataclass(eq=False)
class Bill:
    """
    The requests of one piece of work, and what earlier attempts at it have paid.

    `protected`: whatever interrupts it now, what is recorded keeps a retry from paying more than was allowed.
    """

    items: list[Item] = field(default_factory=list)
    earlier: list[Item] = field(default_factory=list)
    """What was paid before, as it was found recorded: it counts in what is said of the money, and in no metric."""
    protected: bool = False
    waits: list[float] = field(default_factory=list)
    """Seconds that each request waited for its turn."""
    copies: int = 0
    alone: bool = False
    """An earlier answer is known to this work alone, and recorded nowhere: no retry could find it."""

    def add(self) -> Item:
        """Add a request that has not left yet."""
        self.items.append(Item())
        return self.items[-1]

    def found(self, billed: Billed, receipt: str = "", request_id: str | None = None) -> None:
        """Note what an earlier attempt paid, or may have; again and again is once."""
        item = Item(billed, receipt, request_id)
        if billed != "no" and item not in self.earlier:
            self.earlier.append(item)

    @property
    def billed(self) -> Billed:
        """The worst that is true of any request made here: "unknown" before "yes" before "no"."""
        return "yes" if self.alone and not self.items else _worst(self.items)

    @property
    def receipt(self) -> str:
        """Where what was paid for is, as far as Claid told."""
        return " ".join(item.receipt for item in [*self.earlier, *self.items] if item.receipt)

    def correct(self, error: ClaidError) -> None:
        """
        Let an error that strikes after a payment say so, whatever it is an error of; it keeps its kind.

        One that says "not billed" of itself gets the worst that is true of this work, with the request's id. Where an
        answer is known to this work alone, every error tells it.
        """
        costly = [item for item in [*self.earlier, *self.items] if item.billed != "no"]
        if not costly or (error.billed != "no" and not self.alone):
            return
        error.billed = _worst(costly)
        error.request_id = error.request_id or next((item.request_id for item in costly if item.request_id), None)
        receipt = " ".join(item.receipt for item in costly if item.receipt and item.receipt not in error.message)
        if receipt:
            error.message = f"{error.message}{'' if error.message.endswith('.') else '.'} {receipt}"


def _worst(items: Iterable[Item]) -> Billed:
    found = {item.billed for item in items}
    return "unknown" if "unknown" in found else "yes" if "yes" in found else "no"


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
