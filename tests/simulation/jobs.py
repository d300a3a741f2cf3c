"""A task instance, and what its records really say."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow_provider_claid.delivery.identity import Identity
from airflow_provider_claid.delivery.records.attempts import Try
from tests.simulation.scenario import Wishes
from tests.simulation.storage import RECORDS, Fenced, Store
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
    generation: int


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
        """The generations for which pictures that are recorded were handed on, and what these were asked for by."""
        self.cleared = 0
        """How often a person has cleared the task."""
        self.prompt = f"{wishes.name} as it was first"
        self.reuse = True
        self.fenced = Fenced(world, trouble) if wishes.fenced else None
        self.state = self.fenced or (Fenced(world, trouble) if wishes.told else None)
        """Airflow's task state store."""
        self._airflow = Try(0, wishes.retries, wishes.retries)
        self.place = store
        """Where its records are."""

    def next_try(self) -> Try:
        """Begin a try, as Airflow counts them."""
        number = self._airflow.number + 1
        self._airflow = replace(self._airflow, number=number, born=number)
        return self._airflow

    @property
    def has_retries(self) -> bool:
        """Whether Airflow tries again by itself."""
        return self._airflow.number <= self._airflow.max_tries

    def clear(self, retries: int) -> None:
        """Clear the task, whose author has changed its retries perhaps."""
        self.cleared += 1
        now = self._airflow
        self._airflow = replace(now, max_tries=now.number + retries, retries=retries)

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
            parts = (self.place.objects.get(f"{place}.{kind}") for kind in ("intent", "result"))
            body, result = (json.loads(part.data) if part else None for part in parts)
        if body is None:
            return None
        return Record(number, body, result if result and result["token"] == body["token"] else None)

    def delete(self, number: int) -> None:
        """Delete a record, as a person who permits one more submission; its result may be left behind."""
        if self.fenced:
            del self.fenced.values[f"claid_submission_{number}"]
        else:
            del self.place.objects[f"{RECORDS}/{self.key}/{number}.intent"]
        self.allowed += 1

    def chain(self, number: int) -> Chain:
        """Say which wish a submission is for, by the rules that users are told, whatever its record says."""
        chain = None
        by_token = {attempt.ledger._token: attempt for attempt in self.attempts if attempt.ledger}
        for record in self.history()[:number]:
            asked = by_token[record.token]
            if chain is None:
                chain = Chain(1, asked.prompt, asked.generation)
            elif asked.generation == chain.generation or (asked.reuse and asked.prompt == chain.prompt):
                chain = Chain(chain.number, chain.prompt, asked.generation)
            else:
                chain = Chain(record.number, asked.prompt, asked.generation)
        assert chain is not None
        return chain

    def is_settled(self, generation: int) -> bool:
        """Tell whether no attempt of it may pay any more: two at once may both have begun on their own wish."""
        sent = (each.body["request"]["input"] for each in self.history() if each.body["generation"] == generation)
        return generation in self.taken and all(prompt == self.taken[generation] for prompt in sent)

    def wishes_of(self, attempt: Attempt) -> set[str]:
        """Return what an attempt may deliver: what was asked for in its generation, or else is recorded for that."""
        history = self.history()
        of_generation = [each for each in history if each.body["generation"] == attempt.generation]
        # Another attempt at the same time may have taken what it found as its own.
        taken = {
            each.body["request"]["input"]
            for each in history
            if each.result and each.result["generation"] == attempt.generation
        }
        if of_generation:
            return {self.chain(of_generation[0].number).prompt, attempt.prompt} | taken
        return {each.prompt for each in self.attempts if each.generation == attempt.generation}
