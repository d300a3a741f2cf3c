"""How pictures in an output folder are found, in Airflow's words: connections looked up, `storage://` resolved."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from airflow_provider_claid.api.errors import ClaidInputError
from airflow_provider_claid.delivery.watching.expected import Address, Promise, Wanted
from airflow_provider_claid.delivery.watching.watch import Watch
from airflow_provider_claid.hooks.claid import ClaidHook
from airflow_provider_claid.hooks.watch import Locator, watch_for


@dataclass(frozen=True)
class OutputLook:
    """Finds pictures by the storage map of a Claid connection, and reads them by a storage connection."""

    claid_conn_id: str
    storage_conn_id: str | None = None

    async def folder(self, uri: str) -> Address | None:
        """
        Locate a folder; raises a kind of `ClaidError`.

        None for a storage of a sandbox, an API on this machine, that the connection does not map: it says of none
        where its files are, and nothing is paid there.
        """
        account = await ClaidHook(self.claid_conn_id).aaccount()
        if account.endpoint.is_local and urlsplit(uri).netloc not in account.storages:
            return None
        return await Locator(self.claid_conn_id, self.storage_conn_id).folder(uri)

    async def watch(self, picture: Promise) -> Watch:
        """Return the watch for one picture; raises `ClaidInputError` for a file that Claid cannot have written."""
        if picture.uri.startswith("file:"):
            account = await ClaidHook(self.claid_conn_id).aaccount()
            local = any(root.startswith("file:") for root in account.storages.values())
            if not local and not account.endpoint.is_local:
                raise ClaidInputError("object_uri", f"{picture.uri!r:.200}", "an address in the connected storage")
        return watch_for(Wanted(images=(picture,)), self.claid_conn_id, self.storage_conn_id)
