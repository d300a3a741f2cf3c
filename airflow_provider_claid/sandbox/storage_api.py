"""`/v1/storage/…`: the storage connectors of the account."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.routing import APIRoute

from airflow_provider_claid.sandbox.accounts import require_scope
from airflow_provider_claid.sandbox.exchange import exchange_of
from airflow_provider_claid.sandbox.misbehaviour import misbehave
from airflow_provider_claid.sandbox.storages import STORAGE_TYPES, NewStorage, StorageChange, Storages


class _FaultyRoute(APIRoute):
    """A route whose answers can be spoiled by the faults on "storage"."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
        serve = super().get_route_handler()

        async def serve_or_misbehave(request: Request) -> Response:
            answer = await serve(request)
            exchange = exchange_of(request)
            fault = exchange.state.faults.pick("storage")
            return answer if fault is None else await misbehave(fault, exchange, answer)

        return serve_or_misbehave


def _storages(request: Request) -> Storages:
    """Return the storages, if the key may see them."""
    exchange = exchange_of(request)
    key, account = exchange.state.accounts.of(exchange.authorization)
    exchange.record.account = account.name
    require_scope(key, "storage")
    return exchange.state.storages


Connected = Annotated[Storages, Depends(_storages)]
router = APIRouter(prefix="/v1/storage", route_class=_FaultyRoute)


@router.get("/storage-types")
async def list_types(_: Connected) -> dict[str, Any]:
    """List the kinds of storage that can be connected."""
    return {"data": list(STORAGE_TYPES)}


@router.get("/storages")
async def list_storages(storages: Connected) -> dict[str, Any]:
    """List the connected storages, without credentials."""
    return {"data": [storage.describe(detailed=False) for storage in storages.all()]}


@router.post("/storages")
async def connect_storage(storages: Connected, new: NewStorage) -> dict[str, Any]:
    """Connect a storage."""
    return {"data": storages.connect(new).describe(detailed=True)}


@router.get("/storages/{storage_id}")
async def show_storage(storages: Connected, storage_id: int) -> dict[str, Any]:
    """Show a storage, of its credentials the access key only."""
    return {"data": storages.get(storage_id).describe(detailed=True)}


@router.patch("/storages/{storage_id}")
async def change_storage(storages: Connected, storage_id: int, change: StorageChange) -> dict[str, Any]:
    """Change a storage."""
    return {"data": storages.change(storage_id, change).describe(detailed=True)}


@router.delete("/storages/{storage_id}")
async def disconnect_storage(storages: Connected, storage_id: int) -> dict[str, Any]:
    """Disconnect a storage; what it holds stays."""
    return {"data": storages.disconnect(storage_id).describe(detailed=True)}
