"""What a sandbox has seen, answered and billed, for tests and benchmarks to read."""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

NEWEST = 10_000


@dataclass(slots=True)
class Record:
    """
    One request.

    `wall` is seconds since the epoch, `monotonic` seconds of this machine's monotonic clock, both of the
    moment its head was read; `seconds` is how long it took, None until the server is done with it.
    `status` is None while the request is open, then the HTTP status, or what became of it without one: "reset",
    "close", "cut", "short", "hang" (left hanging) or "client_left" (gone before the answer).
    """

    request_id: str
    method: str
    path: str
    wall: float
    monotonic: float
    user_agent: str = ""
    authorization: bool = False
    account: str | None = None
    prompt: str | None = None
    images: int = 0
    output: str | None = None
    credits: int = 0
    fault: str | None = None
    status: int | str | None = None
    seconds: float | None = None

    def describe(self) -> dict[str, Any]:
        """Return the record as plain JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass
class Report:
    """Counts since the start or the last reset, and the newest 10,000 requests and downloaded pictures."""

    requests: deque[Record] = field(default_factory=lambda: deque(maxlen=NEWEST))
    posts: int = 0
    accepted: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    credits: int = 0
    pictures: int = 0
    connections: int = 0
    dropped_connections: int = 0
    downloads: int = 0
    authorized_downloads: int = 0
    downloads_of: dict[str, int] = field(default_factory=dict)
    statuses: Counter[str] = field(default_factory=Counter)
    user_agents: Counter[str] = field(default_factory=Counter)

    def opened(self, record: Record) -> None:
        """Take up a request whose head has been read."""
        self.requests.append(record)
        self.user_agents[record.user_agent] += 1

    def closed(self, record: Record) -> None:
        """Count how a request ended, and note how long it took."""
        record.seconds = time.monotonic() - record.monotonic
        self.statuses[str(record.status)] += 1

    def downloaded(self, path: str, *, authorized: bool) -> None:
        """Count a download of a temporary picture, and whether it carried an Authorization header."""
        self.downloads += 1
        self.downloads_of[path] = self.downloads_of.get(path, 0) + 1
        if len(self.downloads_of) > NEWEST:
            del self.downloads_of[next(iter(self.downloads_of))]
        self.authorized_downloads += authorized

    def describe(self, newest: int = NEWEST) -> dict[str, Any]:
        """Return everything as plain JSON, with the `newest` requests, oldest of them first."""
        requests = list(self.requests)
        return {
            "totals": {
                "posts": self.posts,
                "accepted": self.accepted,
                "refused": {
                    "total": self.refused.total(),
                    "second": self.refused["second"],
                    "minute": self.refused["minute"],
                },
                "credits": self.credits,
                "pictures": self.pictures,
                "downloads": self.downloads,
                "authorized_downloads": self.authorized_downloads,
                "connections": self.connections,
                "dropped_connections": self.dropped_connections,
            },
            "statuses": dict(self.statuses),
            "user_agents": dict(self.user_agents),
            "downloads": dict(self.downloads_of),
            "requests": [record.describe() for record in requests[max(0, len(requests) - newest) :]],
        }
