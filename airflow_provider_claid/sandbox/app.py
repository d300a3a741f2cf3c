"""The application: every route of the sandbox, and its errors in Claid's shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi.exception_handlers import http_exception_handler, request_validation_exception_handler
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Route

from airflow_provider_claid.sandbox import control, storage_api
from airflow_provider_claid.sandbox.answers import ApiError, error, invalid, json_response
from airflow_provider_claid.sandbox.downloads import download
from airflow_provider_claid.sandbox.exchange import CONTROL, Observed
from airflow_provider_claid.sandbox.generate import generate

if TYPE_CHECKING:
    from fastapi import Request, Response
    from starlette.types import ASGIApp

    from airflow_provider_claid.sandbox.state import State


def create_app(state: State) -> ASGIApp:
    """Return the ASGI application that serves `state`."""
    app = FastAPI(
        title="Claid sandbox",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        # Plain routes for the two that benchmarks send thousands of requests to.
        routes=[
            Route("/v1/image/generate", generate, methods=["POST"]),
            Route("/tmp/{folder}/{name}", download, methods=["GET"]),  # noqa: S108 - an address, not a folder
        ],
        exception_handlers={
            ApiError: _api_error,
            RequestValidationError: _invalid_request,
            HTTPException: _http_error,
        },
    )
    app.include_router(storage_api.router)
    app.include_router(control.router)
    return Observed(app, state)


async def _api_error(_: Request, fault: ApiError) -> Response:
    return json_response(fault.body, fault.status)


async def _invalid_request(request: Request, fault: RequestValidationError) -> Response:
    if request.url.path.startswith(CONTROL):
        return await request_validation_exception_handler(request, fault)
    errors = fault.errors()
    if any(one["type"] == "json_invalid" for one in errors):
        refusal = error(400, "The request body is not valid JSON.")
    else:
        refusal = invalid(errors)
    return json_response(refusal.body, refusal.status)


async def _http_error(request: Request, fault: HTTPException) -> Response:
    if fault.status_code == 404:
        refusal = error(404)
        return json_response(refusal.body, refusal.status)
    return await http_exception_handler(request, fault)
