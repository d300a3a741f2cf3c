"""What a task asks for, as plain JSON: made by the operator, carried out by it or by its trigger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from functools import partial
from typing import Any

from airflow_provider_claid.api.models import GenerateRequest
from airflow_provider_claid.delivery.account import Account
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


@dataclass(frozen=True)
class Order:
    """
    A job by its request and the rules of paying for it; `epoch` is the task's `max_tries`.

    The arguments are those of the operator; `request` is the body of the API's request.
    """

    identity: Identity
    epoch: int
    request: GenerateRequest
    claid_conn_id: str
    storage_conn_id: str | None = None
    max_submissions: int = 1
    reuse: bool = True
    own_folder: bool = False
    reconcile_timeout: float = 120.0
    filename: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON, the arguments of `from_json`."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return values | {"identity": asdict(self.identity), "request": self.request.model_dump(mode="json")}

    @classmethod
    def from_json(cls, identity: Mapping[str, Any], request: Mapping[str, Any], **rest: Any) -> Order:
        """Read what `to_json` wrote."""
        return cls(identity=Identity(**identity), request=GenerateRequest.model_validate(request), **rest)

    def ledger(self, account: Account, records: Records) -> Ledger:
        """Return the record of an attempt at this job."""
        wish = fingerprint(self.request, self.claid_conn_id, account.endpoint.base_url)
        asked = Asked(self.epoch, wish, self.request, self.reuse, self.max_submissions)
        return Ledger(records, self.identity, asked, Terms(account.endpoint.timeout, self.own_folder))

    def search(self) -> Search | None:
        """Return how pictures of a lost answer are found; None where Claid keeps them for itself."""
        if self.request.output is None:
            return None
        return Search(partial(_folder_watch, self.claid_conn_id, self.storage_conn_id), self.reconcile_timeout)

    def look(self) -> OutputLook | None:
        """Return how pictures in the output folder are looked at; None where Claid keeps them for itself."""
        return OutputLook(self.claid_conn_id, self.storage_conn_id) if self.request.output else None


def _folder_watch(
    claid_conn_id: str, storage_conn_id: str | None, folder: str, count: int, since: datetime | None
) -> Watch:
    moment = since.replace(microsecond=0) if since else None
    return watch_for(Wanted(folder=folder, count=count, since=moment), claid_conn_id, storage_conn_id)
