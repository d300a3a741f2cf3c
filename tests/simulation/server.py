"""Claid as a simulation: it bills, delays, refuses, breaks off and loses answers, and knows the truth of it all."""

from __future__ import annotations

import json
import zlib
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_claid.pacing.schedule import Pace
from tests.simulation.storage import Store
from tests.simulation.world import Process, World

DAY = 24 * 3600.0
FOLDER = "storage://shop/"
BUCKET = "shop/"


@dataclass(eq=False)
class Sending:
    """A billed POST: from when its bytes left until its client knows how it ended."""

    process: Process
    attempt: Any
    body: dict[str, Any]
    at: float
    intent: Any = None
    chain: int = 0
    ended: bool = False
    billed: bool = False
    abandoned: bool = False
    pictures: list[str] = field(default_factory=list)
    answer: Callable[[Any], None] = lambda _: None

    @property
    def prompt(self) -> str:
        """What it asks for."""
        return str(self.body["input"])


@dataclass(frozen=True)
class Reply:
    """What goes back; `cut` is after how many bytes the connection breaks, None status if there is no answer at all."""

    status: int | None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut: int | None = None


@dataclass(frozen=True)
class Temporary:
    """A picture at a temporary address."""

    data: bytes
    expires_at: float
    sending: Sending


class Server:
    """Serves one account."""

    def __init__(self, world: World, store: Store, pace: Pace, trouble: float) -> None:
        self.sendings: list[Sending] = []
        self.arrivals: list[float] = []
        self.temporary: dict[str, Temporary] = {}
        self.lasting: dict[str, Sending] = {}
        """Which request made the pictures in the storage that is connected, by path."""
        self.made: dict[bytes, Sending] = {}
        self.on_bill: Callable[[Sending], None] = lambda _: None
        self.on_arrival: Callable[[], None] = lambda: None
        self._world = world
        self._store = store
        self._pace = pace
        self._trouble = trouble

    def take(self, sending: Sending) -> None:
        """Accept a request whose bytes have just left."""
        self.sendings.append(sending)
        self._world.push(self._world.now + self._world.random.random() * 0.02, lambda: self._arrive(sending), None)

    def _arrive(self, sending: Sending) -> None:
        world, dice = self._world, self._world.random
        if sending.process.dead and world.chance(0.3):
            return
        self.arrivals.append(world.now)
        self.on_arrival()
        fate = dice.choice(_FATES) if world.chance(self._trouble) else "done"
        busy = dice.choice((0.5, 5.0, 20.0, 200.0)) * dice.random()
        world.tell(f"the server takes {sending.prompt!r} of {sending.attempt.name}: {fate}")
        world.counters[f"fate_{fate}"] += 1
        if fate in _REFUSALS:
            status, headers, body = _refusal(fate, dice)
            self._later(dice.random(), lambda: sending.answer(Reply(status, headers, body)))
            return
        paid = fate not in {"reset", "error"} or world.chance(0.5)
        if paid:
            self._later(busy * dice.random(), lambda: self._bill(sending))
        self._later(busy, lambda: self._answer(sending, fate))

    def _later(self, delay: float, action: Callable[[], None]) -> None:
        self._world.push(self._world.now + delay, action, None)

    def _bill(self, sending: Sending) -> None:
        world = self._world
        if sending.process.dead and not sending.abandoned:
            # A server may notice that nobody listens any more.
            sending.abandoned = True
            if world.chance(0.3):
                return
        sending.billed = True
        world.counters["payments"] += 1
        world.tell(f"the server bills {sending.prompt!r} of {sending.attempt.name}")
        count = sending.body["options"]["number_of_images"]
        if count > 1 and world.chance(self._trouble * 0.2):
            count -= 1
        for number in range(count):
            self._make(sending, f"{self.sendings.index(sending)}-{number}")
        self.on_bill(sending)

    def _make(self, sending: Sending, name: str) -> None:
        world = self._world
        data = picture(name, black=world.chance(0.05))
        url = f"https://temporary.test/{name}.png"
        self.made[data] = sending
        self.temporary[url] = Temporary(data, world.now + DAY, sending)
        sending.pictures.append(url)
        if output := sending.body.get("output"):
            path = f"{BUCKET}{output.removeprefix(FOLDER)}{name}.png"
            self.lasting[path] = sending
            late = world.random.random() * (200.0 if world.chance(self._trouble * 0.3) else 1.0)
            self._later(late, lambda: self._store.put(path, data))

    def _answer(self, sending: Sending, fate: str) -> None:
        if fate == "done" and not sending.billed:
            fate = "reset"
        if fate == "done":
            sending.answer(Reply(200, _headers(self._world.random), self._success(sending)))
        elif fate == "cut":
            body = self._success(sending)
            sending.answer(Reply(200, {}, body, cut=self._world.random.randrange(len(body))))
        elif fate == "empty":
            sending.answer(Reply(200, {}, b'{"data": {"input": {}, "output": []}}'))
        elif fate == "garbage":
            sending.answer(Reply(200, {}, b"<html>it works</html>"))
        elif fate in {"error", "late error"}:
            sending.answer(Reply(self._world.random.choice((500, 502, 503, 504, 408, 303)), {}, b"oh"))
        elif fate != "silence":
            sending.answer(Reply(None))

    def _success(self, sending: Sending) -> bytes:
        output = []
        for url in sending.pictures:
            image: dict[str, Any] = {"tmp_url": url, "ext": "png", "mime": "image/png", "width": 8, "height": 8}
            if folder := sending.body.get("output"):
                image["object_uri"] = f"s3://{BUCKET}{folder.removeprefix(FOLDER)}{url.rpartition('/')[2]}"
            output.append(image)
        return json.dumps({"data": {"input": {"text": sending.prompt}, "output": output}}).encode()

    def most_in(self, seconds: float) -> int:
        """Return the most arrivals in any window of this length that ends with the last one."""
        return len(self.arrivals) - bisect_right(self.arrivals, self._world.now - seconds)


_REFUSALS = {"busy": 429, "invalid": 422, "poor": 402}
_FATES = (
    *("reset", "reset after", "silence", "cut", "empty", "garbage", "error", "late error"),
    *("busy", "busy", "invalid", "poor"),
)


def _refusal(fate: str, dice: Any) -> tuple[int, dict[str, str], bytes]:
    status = _REFUSALS[fate]
    headers = {}
    if status == 429:
        headers = dice.choice(
            (
                {},
                {"retry-after": "2"},
                {"ratelimit-limit": "4, 120;w=60, 4;w=1", "ratelimit-remaining": "0", "ratelimit-reset": "1"},
                {"ratelimit-limit": "120, 120;w=60, 4;w=1", "ratelimit-remaining": "0", "ratelimit-reset": "30"},
                {"retry-after": "300"},
            )
        )
    return status, headers, b'{"error_code": "17", "error_type": "some", "error_message": "no"}'


def _headers(dice: Any) -> dict[str, str]:
    left = str(dice.randrange(1, 100))
    return {
        "x-request-id": f"r{dice.randrange(10**6)}",
        "ratelimit-limit": "120, 120;w=60, 4;w=1",
        "ratelimit-remaining": left,
        "ratelimit-reset": "20",
    }


def picture(name: str, *, black: bool = False) -> bytes:
    """Return a small PNG; one that is black is large and plain, as the content filter's."""
    size = 64 if black else 8
    level = b"\0" if black else b"\x80"
    rows = (b"\0" + level * 3 * size) * size
    header = size.to_bytes(4, "big") * 2 + bytes((8, 2, 0, 0, 0))
    parts = ((b"IHDR", header), (b"tEXt", b"Title\0" + name.encode()), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, body) for kind, body in parts)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")
