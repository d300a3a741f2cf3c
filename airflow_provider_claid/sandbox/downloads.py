"""`GET /tmp/<uuid>/<name>_<n>.png`: the temporary addresses of pictures, as an object store serves them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fastapi import Response

from airflow_provider_claid.sandbox.exchange import exchange_of
from airflow_provider_claid.sandbox.misbehaviour import misbehave
from airflow_provider_claid.sandbox.pictures import byte_range, spoil

if TYPE_CHECKING:
    from fastapi import Request

_GONE = (
    b"<?xml version='1.0' encoding='UTF-8'?><Error><Code>%s</Code>"
    b"<Message>The specified key does not exist or has expired.</Message></Error>"
)


async def download(request: Request) -> Response:
    """Serve a picture, all of it or the range asked for; no key is needed, and one that is sent gets reported."""
    exchange, path = exchange_of(request), request.url.path
    state = exchange.state
    sketch = state.pictures.find(path, state.settings.picture_hours * 3600)
    if request.method == "GET":
        state.report.downloaded(path, authorized=exchange.record.authorization)
    if sketch is None:
        code = b"NoSuchKey" if state.settings.expired_status == 404 else b"AccessDenied"
        return Response(_GONE % code, state.settings.expired_status, media_type="application/xml")
    exchange.record.prompt = sketch.prompt
    fault = state.faults.pick("picture", sketch.prompt)
    png = await asyncio.to_thread(state.pictures.file, path, sketch)
    if fault is None:
        return _served(png, request.headers.get("range"))
    png = await asyncio.to_thread(spoil, fault.kind, png, sketch)
    return await misbehave(fault, exchange, Response(png, media_type="image/png"))


def _served(png: bytes, wanted: str | None) -> Response:
    headers = {"accept-ranges": "bytes", "cache-control": "public, max-age=3600"}
    try:
        part = byte_range(wanted, len(png))
    except ValueError:
        return Response(status_code=416, headers={**headers, "content-range": f"bytes */{len(png)}"})
    if part is None:
        return Response(png, media_type="image/png", headers=headers)
    start, stop = part
    headers["content-range"] = f"bytes {start}-{stop - 1}/{len(png)}"
    return Response(png[start:stop], 206, media_type="image/png", headers=headers)
