"""What a task asks for and where it goes, as plain JSON: made by the operator, carried out by it or by its trigger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

from airflow_provider_claid.api.endpoint import DEFAULT_BASE_URL, Endpoint
from airflow_provider_claid.api.models import GenerateRequest
from airflow_provider_claid.delivery.account import Account
from airflow_provider_claid.delivery.checks import OnFiltered, Target
from airflow_provider_claid.delivery.identity import Identity
from airflow_provider_claid.delivery.payment import Search
from airflow_provider_claid.delivery.records.decision import Asked
from airflow_provider_claid.delivery.records.ledger import Ledger, Terms
from airflow_provider_claid.delivery.records.store import Records
from airflow_provider_claid.delivery.records.submission import fingerprint
from airflow_provider_claid.delivery.watching.expected import Wanted
from airflow_provider_claid.delivery.watching.watch import Watch
from airflow_provider_claid.hooks.look import OutputLook
from airflow_provider_claid.hooks.watch import watch_for
from airflow_provider_claid.pacing.schedule import Pace


@dataclass(frozen=True)
class Order:
    """
    A job with all that was resolved and checked for it before it may be paid.

    `attempt`, `generation` and `owner` are those that the attempt has written down (`records.attempts`).

    `request` is the body of the API's request. The copies are called `name`, with -1, -2 … added, and go to `target`,
    its connection looked up, with these `tags`; without a target the pictures stay where Claid puts them. `base_url`
    and `timeout` (seconds) are those of the Claid connection, which holds the key and is not in here. The rest is as
    in the operator. A task that comes back from its trigger delivers by this alone.
    """

    identity: Identity
    generation: int
    request: GenerateRequest
    claid_conn_id: str
    storage_conn_id: str | None = None
    max_submissions: int = 1
    reuse: bool = True
    own_folder: bool = False
    reconcile_timeout: float = 120.0
    name: str = ""
    target: Target | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    on_filtered: OnFiltered = "fail"
    base_url: str = DEFAULT_BASE_URL
    timeout: float = 180.0
    attempt: int = 1
    owner: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON, which `from_json` reads."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return values | {
            "identity": asdict(self.identity),
            "request": self.request.model_dump(mode="json"),
            "target": asdict(self.target) if self.target else None,
            "tags": dict(self.tags),
        }

    @classmethod
    def from_json(cls, value: Any) -> Order:
        """Read what `to_json` wrote; raises `ValueError` for anything else, such as what another version wrote."""
        try:
            parts = {
                "identity": Identity(**value["identity"]),
                "request": GenerateRequest.model_validate(value["request"]),
                "target": Target(**value["target"]) if value.get("target") else None,
            }
            return cls(**{**value, **parts})
        except (AttributeError, LookupError, TypeError, ValueError) as fault:
            raise ValueError(f"{type(fault).__name__}: {str(fault)[:200]}") from fault

    def keyless_account(self) -> Account:
        """Return the account as far as delivery needs it: without its key, so that nothing can be paid with it."""
        return Account("", Endpoint("", self.base_url, self.timeout), Pace(1, 1), Path())

    def ledger(self, account: Account, records: Records) -> Ledger:
        """Return the record of an attempt at this job."""
        wish = fingerprint(self.request, self.claid_conn_id, account.endpoint.base_url)
        asked = Asked(self.generation, wish, self.request, self.reuse, self.max_submissions)
        return Ledger(records, self.identity, asked, Terms(account.endpoint.timeout, self.own_folder))

    def search(self) -> Search | None:
        """Return how pictures of a lost answer are found; None where Claid keeps them for itself."""
        if self.request.output is None:
            return None
        return Search(partial(_folder_watch, self.claid_conn_id, self.storage_conn_id), self.reconcile_timeout)

    def look(self) -> OutputLook | None:
        """Return how pictures in the output folder are looked at; None where Claid keeps them for itself."""
        return OutputLook(self.claid_conn_id, self.storage_conn_id) if self.request.output else None


def _folder_watch(claid_conn_id: str, storage_conn_id: str | None, folder: str, count: int) -> Watch:
    return watch_for(Wanted(folder=folder, count=count), claid_conn_id, storage_conn_id)
