"""`/_sandbox/…`: faults, report, reset and settings, for whoever tests against the sandbox."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from airflow_provider_claid.sandbox.exchange import exchange_of
from airflow_provider_claid.sandbox.faults import Fault
from airflow_provider_claid.sandbox.report import NEWEST

router = APIRouter(prefix="/_sandbox")


@router.get("/faults")
async def list_faults(request: Request) -> list[dict[str, Any]]:
    """List the rules in force, with how often each has matched and struck."""
    return exchange_of(request).state.faults.describe()


@router.post("/faults", status_code=201)
async def add_fault(request: Request, fault: Fault) -> dict[str, Any]:
    """Add a rule behind those in force."""
    exchange_of(request).state.faults.add(fault)
    return fault.model_dump(exclude_unset=True)


@router.delete("/faults", status_code=204)
async def clear_faults(request: Request) -> None:
    """Drop all rules."""
    exchange_of(request).state.faults.clear()


@router.get("/report")
async def report(request: Request, newest: Annotated[int, Query(ge=0, le=NEWEST)] = NEWEST) -> dict[str, Any]:
    """Tell what was seen, answered and billed, with the `newest` requests."""
    return exchange_of(request).state.describe(newest)


@router.post("/reset", status_code=204)
async def reset(request: Request) -> None:
    """Forget counts, windows, faults and pictures; settings and storages stay."""
    exchange_of(request).state.reset()


@router.get("/settings")
async def show_settings(request: Request) -> dict[str, Any]:
    """Show the settings, without the keys."""
    return exchange_of(request).state.settings.model_dump(mode="json", exclude={"keys"})


@router.patch("/settings")
async def change_settings(request: Request, changes: Annotated[dict[str, Any], Body()]) -> dict[str, Any]:
    """Change some settings and show them all."""
    state = exchange_of(request).state
    try:
        state.change(changes)
    except ValidationError as refusal:
        raise RequestValidationError(refusal.errors(include_url=False, include_context=False)) from None
    except ValueError as refusal:
        fault = {"type": "value_error", "loc": ("body",), "msg": str(refusal), "input": sorted(changes)}
        raise RequestValidationError([fault]) from None
    return await show_settings(request)
