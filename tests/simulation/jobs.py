"""A task instance, and what its records really say."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_claid.delivery.identity import Identity
from tests.simulation.scenario import Wishes
from tests.simulation.storage import RECORDS, Fenced, Store, fenced_records, object_records
from tests.simulation.world import World

if TYPE_CHECKING:
    from tests.simulation.attempts import Attempt


@dataclass(frozen=True)
class Record:
    """A submission as it is stored."""

    number: int
    body: dict[str, Any]
    result: dict[str, Any] | None

    @property
    def token(self) -> str:
        """Which attempt wrote it."""
        return str(self.body["token"])

    @property
    def token_and_number(self) -> tuple[str, int]:
        """What names it."""
        return self.token, self.number

    @property
    def state(self) -> str:
        """How it ended, as far as is recorded."""
        return str(self.result["outcome"]) if self.result else "open"


@dataclass(frozen=True)
class Chain:
    """Submissions that are for one wish: the number of the first of them, and the prompt."""

    number: int
    prompt: str
    epoch: int


class Job:
    """A task instance."""

    def __init__(self, world: World, wishes: Wishes, store: Store, trouble: float) -> None:
        self.name = wishes.name
        self.wishes = wishes
        self.identity = Identity("dag", "run", wishes.name)
        self.key = self.identity.key()
        self.allowed = wishes.max_submissions
        self.attempts: list[Attempt] = []
        self.collectors: list[Attempt] = []
        """What brings home what a trigger paid for; each belongs to an attempt."""
        self.taken: dict[int, str] = {}
        """The epochs for which pictures that are recorded were handed on, and what these were asked for by."""
        self.epoch = 0
        self.prompt = f"{wishes.name} as it was first"
        self.reuse = True
        self.fenced = Fenced(world, trouble) if wishes.fenced else None
        self._store = store

    def records(self) -> Any:
        """Return the records as a new attempt gets them."""
        return fenced_records(self.fenced) if self.fenced else object_records(self._store, self.key)

    def history(self) -> list[Record]:
        """Return what is really recorded."""
        found = []
        while (record := self._record(len(found) + 1)) is not None:
            found.append(record)
        return found

    def _record(self, number: int) -> Record | None:
        if self.fenced:
            text = self.fenced.values.get(f"claid_submission_{number}")
            value = json.loads(text) if text else {}
            body, result = value.get("intent"), value.get("result")
        else:
            place = f"{RECORDS}/{self.key}/{number}"
            parts = (self._store.objects.get(f"{place}.{kind}") for kind in ("intent", "result"))
            body, result = (json.loads(part.data) if part else None for part in parts)
        if body is None:
            return None
        return Record(number, body, result if result and result["token"] == body["token"] else None)

    def delete(self, number: int) -> None:
        """Delete a record, as a person who permits one more submission; its result may be left behind."""
        if self.fenced:
            del self.fenced.values[f"claid_submission_{number}"]
        else:
            del self._store.objects[f"{RECORDS}/{self.key}/{number}.intent"]
        self.allowed += 1

    def chain(self, number: int) -> Chain:
        """Say which wish a submission is for, by the rules that users are told, whatever its record says."""
        chain = None
        by_token = {attempt.ledger._token: attempt for attempt in self.attempts}
        for record in self.history()[:number]:
            asked = by_token[record.token]
            if chain is None:
                chain = Chain(1, asked.prompt, asked.epoch)
            elif asked.epoch == chain.epoch or (asked.reuse and asked.prompt == chain.prompt):
                chain = Chain(chain.number, chain.prompt, asked.epoch)
            else:
                chain = Chain(record.number, asked.prompt, asked.epoch)
        assert chain is not None
        return chain

    def is_settled(self, epoch: int) -> bool:
        """Tell whether no attempt of this epoch may pay any more: two at once may both have begun on their own wish."""
        sent = (each.body["request"]["input"] for each in self.history() if each.body["epoch"] == epoch)
        return epoch in self.taken and all(prompt == self.taken[epoch] for prompt in sent)

    def wishes_of(self, attempt: Attempt) -> set[str]:
        """Return what an attempt may deliver: what was asked for in its epoch, or else is recorded for that."""
        history = self.history()
        of_epoch = [each for each in history if each.body["epoch"] == attempt.epoch]
        # Another attempt at the same time may have taken what it found as its own.
        taken = {
            each.body["request"]["input"] for each in history if each.result and each.result["epoch"] == attempt.epoch
        }
        if of_epoch:
            return {self.chain(of_epoch[0].number).prompt, attempt.prompt} | taken
        return {each.prompt for each in self.attempts if each.epoch == attempt.epoch}
