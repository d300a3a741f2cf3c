"""The pictures of a successful answer, wherever in it they are: what can be read was paid for, and is delivered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from airflow_provider_claid.api import addresses
from airflow_provider_claid.api.json_text import loads
from airflow_provider_claid.api.models import GeneratedImage, GenerateInput, GenerateResponse
from airflow_provider_claid.api.redaction import redact

_ADDRESSES = ("tmp_url", "object_uri", "claid_storage_uri")


def response_in(raw: bytes, secret: str, *, files: bool) -> GenerateResponse | None:
    """
    Read the body of a successful answer; None if it has neither a picture nor a place for some.

    The documented place is `data.output`, a list of objects. An item that is none counts as missing, unless it is a
    text that is an address. `output` beside `data` is read too, and if neither holds a picture, objects with an address
    of one anywhere in the answer.
    The secret is masked; `files` as in `addresses.accepted`.
    """
    content = loads(raw)
    read = [[_image(item, secret, files=files) for item in _items(place, files=files)] for place in _places(content)]
    images = next((found for found in read if any(image.uri for image in found)), None)
    images = images or _anywhere(content, secret, files=files) or next(iter(read), None)
    if images is None:
        return None
    return GenerateResponse(input=_input(content, secret), output=tuple(images))


def _places(content: Any) -> list[list[Any]]:
    """Return the lists of output in documented places, the best first."""
    data = content.get("data") if isinstance(content, dict) else None
    holders = [each for each in (data, content) if isinstance(each, dict)]
    return [each["output"] for each in holders if isinstance(each.get("output"), list)]


def _items(place: list[Any], *, files: bool) -> Iterator[dict[str, Any]]:
    for item in place:
        if isinstance(item, dict):
            yield item
        elif isinstance(item, str) and (address := addresses.accepted(item, files=files)) is not None:
            # What the web serves dies in a day; anything else is a place in a storage.
            yield {"tmp_url" if address.startswith("http") else "object_uri": address}


def _image(item: dict[str, Any], secret: str, *, files: bool) -> GeneratedImage:
    known = {name: item[name] for name in GeneratedImage.model_fields if name in item}
    for name in _ADDRESSES:
        value = known.get(name)
        known[name] = addresses.accepted(value, files=files) if isinstance(value, str) else None
    return GeneratedImage.model_validate(redact(known, secret))


def _anywhere(content: Any, secret: str, *, files: bool) -> list[GeneratedImage]:
    """Return each object with an address, in the order of the answer; one that is told twice, once."""
    images = (_image(each, secret, files=files) for each in _objects(content) if not each.keys().isdisjoint(_ADDRESSES))
    found: dict[str, GeneratedImage] = {}
    for image in images:
        if image.uri is not None:
            found.setdefault(image.uri, image)
    return list(found.values())


def _objects(content: Any) -> Iterator[dict[str, Any]]:
    """Yield all objects of a JSON value, however deep, in their order."""
    ahead = [content]
    while ahead:
        value = ahead.pop()
        if isinstance(value, dict):
            yield value
            ahead.extend(reversed(list(value.values())))
        elif isinstance(value, list):
            ahead.extend(reversed(value))


def _input(content: Any, secret: str) -> GenerateInput | None:
    data = content.get("data") if isinstance(content, dict) else None
    told = data.get("input") if isinstance(data, dict) else None
    return GenerateInput.model_validate(redact({"text": told.get("text")}, secret)) if isinstance(told, dict) else None
