"""Pictures at temporary addresses: kept as a few words each, drawn when fetched, gone after their time."""

import random
import re
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from uuid import uuid4

from airflow_provider_claid.sandbox.drawing import Sketch, draw

_MOST_PICTURES = 200_000
_MOST_DRAWN = 32


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture with a temporary address; `born` is monotonic seconds."""

    sketch: Sketch
    born: float


class PictureStore:
    """The temporary pictures of a sandbox: at most 200,000 descriptions and 32 drawn files, the newest."""

    def __init__(self) -> None:
        self._pictures: OrderedDict[str, Picture] = OrderedDict()
        self._drawn: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, sketch: Sketch) -> str:
        """Take up a picture and return the path of its temporary address."""
        name = uuid4()
        path = f"/tmp/{name}/{name.hex[:6]}_{sketch.number - 1}.png"  # noqa: S108 - an address, not a folder
        self._pictures[path] = Picture(sketch, time.monotonic())
        if len(self._pictures) > _MOST_PICTURES:
            self._pictures.popitem(last=False)
        return path

    def find(self, path: str, lifetime: float) -> Sketch | None:
        """Return the sketch at `path`, or None if there is none younger than `lifetime` seconds."""
        picture = self._pictures.get(path)
        if picture is None or time.monotonic() - picture.born >= lifetime:
            return None
        return picture.sketch

    def file(self, path: str, sketch: Sketch) -> bytes:
        """Return the PNG at `path`, drawn unless it was fetched a moment ago; for a thread, it takes about 80 ms."""
        with self._lock:
            if path in self._drawn:
                self._drawn.move_to_end(path)
                return self._drawn[path]
        png = draw(sketch)
        with self._lock:
            self._drawn[path] = png
            if len(self._drawn) > _MOST_DRAWN:
                self._drawn.popitem(last=False)
        return png

    def clear(self) -> None:
        """Forget every picture."""
        self._pictures.clear()
        with self._lock:
            self._drawn.clear()


def spoil(kind: str | None, png: bytes, sketch: Sketch) -> bytes:
    """Return what the fault `kind` makes of a picture; kinds that do not touch the bytes leave it as it is."""
    if kind == "truncated":
        return png[: len(png) // 2]
    if kind == "corrupt":
        data = png.index(b"IDAT") + 4
        middle = data + int.from_bytes(png[data - 8 : data - 4]) // 2
        return png[:middle] + bytes([png[middle] ^ 0xFF]) + png[middle + 1 :]
    if kind == "wrong_size":
        return draw(sketch, side=512)
    if kind == "html":
        return b"<!doctype html><title>Sign in</title><p>Please sign in to continue.</p>"
    return b"" if kind == "zero" else png


def sketches(
    prompt: str,
    count: int,
    request_id: str,
    *,
    luck: random.Random,
    filtered_words: frozenset[str],
    plain: bool = False,
) -> list[Sketch]:
    """Return what the `count` pictures of one request show, each with a seed of its own."""
    filtered = not filtered_words.isdisjoint(re.findall(r"\w+", prompt.casefold()))
    return [
        Sketch(prompt, number, count, request_id, luck.getrandbits(48), filtered, plain)
        for number in range(1, count + 1)
    ]


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """
    Return first and past-the-last byte that a Range header asks for, None for the whole file.

    A range that lies outside the file is a ValueError; several ranges, or what is no range, get the whole file.
    """
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", header or "")
    if match is None or not any(match.groups()):
        return None
    first, last = match.groups()
    if not first:
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), min(size, int(last) + 1) if last else size
    if start >= stop:
        raise ValueError(f"no bytes {start}-{stop} in {size}")
    return start, stop
