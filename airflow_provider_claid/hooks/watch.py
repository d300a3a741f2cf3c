"""The watch for pictures in Airflow's words: connections looked up, `storage://` resolved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from importlib.util import find_spec
from urllib.parse import urlsplit

from airflow_provider_claid.api.addresses import is_local_name
from airflow_provider_claid.api.endpoint import is_loopback_host
from airflow_provider_claid.api.errors import ClaidConfigurationError, ClaidInputError
from airflow_provider_claid.delivery.storage_map import join, resolve
from airflow_provider_claid.delivery.threads import in_thread
from airflow_provider_claid.delivery.watching.expected import WEB, Address, Verify, Wanted, locate
from airflow_provider_claid.delivery.watching.watch import Located, Place, Watch
from airflow_provider_claid.hooks.claid import ClaidHook
from airflow_provider_claid.hooks.storage import storage_connection


def watch_for(
    wanted: Wanted,
    claid_conn_id: str,
    storage_conn_id: str | None,
    *,
    verify: Verify = "header",
    min_bytes: int = 1,
    verified: str = "",
) -> Watch:
    """Return the watch for these pictures; connections and the storage map are looked up at its first look."""
    if verify == "full" and find_spec("PIL") is None:
        fix = "Install Pillow, or take verify='header'."
        raise ClaidConfigurationError("verify", "'full', and Pillow is not installed", "'exists' or 'header'", fix)
    locator = Locator(claid_conn_id, storage_conn_id)
    return Watch(wanted, partial(locator.locate, wanted), verify=verify, min_bytes=min_bytes, verified=verified)


class Locator:
    """Finds out where pictures are; the Claid connection is looked up only for what needs it."""

    def __init__(self, claid_conn_id: str, storage_conn_id: str | None) -> None:
        self._hook = ClaidHook(claid_conn_id)
        self._storage_conn_id = storage_conn_id or None

    async def locate(self, wanted: Wanted) -> Located:
        """
        Locate what is wanted; raises `ClaidInputError` or `ClaidConfigurationError`.

        A file of this machine that only Claid's answer names is read with an API on this machine, a sandbox, alone.
        """
        if wanted.folder is not None:
            return Located(folder=await self.folder(wanted.folder))
        addresses = await self._resolved("images", [(each.uri, each.storage_conn_id) for each in wanted.images])
        web = [(each.scheme, urlsplit(each.uri).hostname or "") for each in addresses if each.scheme in WEB]
        plain = [host for scheme, host in web if scheme == "http"]
        local = bool(plain) or any(is_local_name(host) for _, host in web)
        loopback = local and (await self._hook.aaccount()).endpoint.is_local
        if plain and not (loopback and all(map(is_loopback_host, plain))):
            came = "an http address"
            raise ClaidInputError("images", came, "https; http only of this machine, with an API on this machine")
        places = tuple(map(Place, wanted.images, addresses))
        files = [place for place in places if place.promise.uri.startswith("file:") and place.promise.is_of_claid]
        if files and not (await self._hook.aaccount()).endpoint.is_local:
            came = f"{files[0].promise.uri!r:.80}, as an address that Claid gave"
            fix = "Of this machine, only what save_to copied or a person names is read."
            raise ClaidInputError("images", came, "an address in a connected storage", fix)
        return Located(places, allow_loopback=loopback)

    async def folder(self, uri: str) -> Address:
        """Locate a folder."""
        return (await self._resolved("folder", [(uri, None)]))[0]

    async def _resolved(self, field: str, uris: Sequence[tuple[str, str | None]]) -> list[Address]:
        """Locate each URI, by its own connection unless there is one for all; each storage is asked for once."""

        def first() -> list[Address]:
            return [locate(uri, field, self._storage_conn_id or conn_id) for uri, conn_id in uris]

        addresses = await in_thread(first)
        names = {address.bucket for address in addresses if address.scheme == "storage"}
        account = await self._hook.aaccount() if names else None
        roots = {name: await resolve(account, f"storage://{name}/", field) for name in names} if account else {}
        return await in_thread(_connected, addresses, roots, field)


def _connected(addresses: Iterable[Address], roots: Mapping[str, str], field: str) -> list[Address]:
    """Put the roots of storages in, and the connections that were looked up. Blocks."""
    look_up = cache(storage_connection)
    placed = []
    for each in addresses:
        address = each
        if address.scheme == "storage":
            address = locate(join(roots[address.bucket], address.key), field, address.conn_id)
        if address.scheme not in WEB:
            address = replace(address, conn_id=look_up(address.conn_id, address.scheme))
        placed.append(address)
    return placed
