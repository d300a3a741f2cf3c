"""`POST /v1/image/generate`: admission, billing, pictures, answer."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from airflow_provider_claid.api.models import GenerateRequest
from airflow_provider_claid.sandbox.accounts import require_scope
from airflow_provider_claid.sandbox.answers import (
    ApiError,
    error,
    error_body,
    generation,
    image,
    invalid,
    json_response,
    of_odd_types,
)
from airflow_provider_claid.sandbox.drawing import draw
from airflow_provider_claid.sandbox.exchange import exchange_of
from airflow_provider_claid.sandbox.misbehaviour import Unheard, misbehave
from airflow_provider_claid.sandbox.pictures import sketches, spoil

if TYPE_CHECKING:
    from fastapi import Request, Response

    from airflow_provider_claid.sandbox.accounts import Account
    from airflow_provider_claid.sandbox.drawing import Sketch
    from airflow_provider_claid.sandbox.exchange import Exchange
    from airflow_provider_claid.sandbox.faults import Fault
    from airflow_provider_claid.sandbox.storages import Storage


async def generate(request: Request) -> Response:
    """Serve one generation; refusals are `ApiError`s, in the order key, scope, rate, body, storage, credits."""
    exchange = exchange_of(request)
    state, record = exchange.state, exchange.record
    body = await request.body()
    state.report.posts += 1
    key, account = state.accounts.of(exchange.authorization)
    record.account = account.name
    require_scope(key, "image_editing")
    _pass_windows(exchange, account)
    wanted = _read(body)
    record.prompt, record.images = wanted.input, wanted.options.number_of_images
    record.output = wanted.output
    target = state.storages.for_output(wanted.output) if wanted.output else None
    account.require(record.images)
    state.report.accepted += 1
    fault = state.faults.pick("generate", wanted.input)
    made = _bill(exchange, account, fault)
    if fault and fault.drops_at_once:
        # The client is gone, but what was billed is made all the same, in the time that it takes.
        await misbehave(fault, exchange, Unheard())
    if made:
        await state.pause(state.next_latency())
    images = await _make(exchange, str(request.base_url), wanted.input, made, target)
    return await _answer(exchange, fault, wanted.input, images)


def _pass_windows(exchange: Exchange, account: Account) -> None:
    """Count the request in the account's windows and note its headers, or raise the 429."""
    decision = account.limiter.decide()
    if decision is None:
        return
    exchange.headers = account.limiter.headers(decision)
    if not decision.accepted:
        exchange.state.report.refused["minute" if decision.policy.seconds == 60 else "second"] += 1
        raise ApiError(429, {"detail": error_body(429)})


def _read(body: bytes) -> GenerateRequest:
    try:
        parsed = json.loads(body)
    except ValueError:
        raise error(400, "The request body is not valid JSON.") from None
    try:
        return GenerateRequest.model_validate(parsed)
    except ValidationError as refusal:
        raise invalid(refusal.errors(include_url=False)) from None


def _bill(exchange: Exchange, account: Account, fault: Fault | None) -> int:
    """
    Bill the generation and return how many pictures it makes.

    Billed at admission, before the latency: a client that hangs up while it waits has bought its pictures, and whatever
    goes wrong later is a lost answer, not a lost bill. That is the worst that Claid's documentation leaves open.
    """
    asked = exchange.record.images
    billed = fault.billed_pictures(asked) if fault else asked
    account.bill(billed)
    exchange.record.credits = billed
    exchange.state.report.credits += billed
    made = fault.made_pictures(asked) if fault else asked
    exchange.state.report.pictures += made
    return made


async def _make(
    exchange: Exchange, address: str, prompt: str, count: int, target: tuple[Storage, str] | None
) -> list[dict[str, Any]]:
    """Return the answer's entries for `count` pictures: written to `target`, else drawn when they are fetched."""
    state = exchange.state
    drafts = sketches(
        prompt,
        count,
        exchange.record.request_id,
        luck=state.art,
        filtered_words=state.settings.filtered_words,
        plain=state.settings.plain,
    )
    if target is None:
        return [image(tmp_url=address.rstrip("/") + state.pictures.add(sketch)) for sketch in drafts]
    storage, folder = target

    def store(sketch: Sketch, kind: str | None) -> dict[str, Any]:
        return state.writer.write(storage, folder, sketch.number, spoil(kind, draw(sketch), sketch))

    faults = [state.faults.pick("picture", prompt) for _ in drafts]
    kinds = [fault.kind if fault else None for fault in faults]
    return await asyncio.gather(*(asyncio.to_thread(store, *job) for job in zip(drafts, kinds, strict=True)))


async def _answer(exchange: Exchange, fault: Fault | None, prompt: str, images: list[dict[str, Any]]) -> Response:
    if fault and fault.kind == "wrong_types":
        body = {"data": {"input": None, "output": of_odd_types(images), "profiling": []}}
    else:
        body = generation(prompt, [] if fault and fault.kind == "empty_output" else images)
    answer = json_response(body)
    if fault is None:
        return answer
    return Unheard() if fault.drops_at_once else await misbehave(fault, exchange, answer)
