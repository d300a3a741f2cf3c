"""What a seed stands for: the weather, the jobs, and what happens to their attempts."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

from airflow_provider_claid.pacing.schedule import Pace

FENCED_SHARE = 0.2


@dataclass(frozen=True)
class Weather:
    """How often what fails: shares of 1."""

    server: float
    store: float
    network: float
    pacing: float
    kills: float
    stops: float
    cancels: float
    rivals: float
    lost: float
    """How often an attempt runs where the place of the records is not the one of the others."""


@dataclass(frozen=True)
class Wishes:
    """A task as its author wrote it."""

    name: str
    images: int
    max_submissions: int
    timeout: float
    save: bool
    output: str | None
    own_folder: bool
    fenced: bool
    filename: str | None
    attempts: int
    retries: int
    search_seconds: float
    drifts: bool
    """True where its template renders differently at every other try."""
    deferred: bool
    told: bool
    """True where Airflow keeps what attempts tell it (3.3), and the records are in a folder all the same."""
    stale: bool
    """True where pictures of the same names, of an earlier run, are where the copies go."""


@dataclass(frozen=True)
class Scenario:
    """One run."""

    weather: Weather
    pace: Pace
    daily_credits: int | None
    booked: int
    """Requests of others in the last minute."""
    jobs: tuple[Wishes, ...]
    shared_process: bool
    long_gaps: bool


def draw(dice: Random) -> Scenario:
    """Draw a run; everything else that is random in it comes from the same dice."""
    calm = dice.random() < 0.1
    weather = Weather(
        server=0.0 if calm else dice.choice((0.1, 0.3, 0.6)),
        store=0.0 if calm else dice.choice((0.0, 0.02, 0.1, 0.3, 0.3)),
        network=0.0 if calm else dice.choice((0.0, 0.05, 0.3)),
        pacing=dice.choice((0.0, 0.0, 0.0, 0.2)),
        kills=0.0 if calm else dice.choice((0.1, 0.4, 0.7)),
        stops=dice.choice((0.0, 0.0, 0.2)),
        cancels=dice.choice((0.0, 0.0, 0.3)),
        rivals=dice.choice((0.0, 0.2, 0.5)),
        lost=dice.choice((0.0, 0.0, 0.1)),
    )
    # All of a deployment: the pictures of jobs that are recorded elsewhere would be taken for one's own.
    fenced = dice.random() < FENCED_SHARE
    jobs = tuple(_wishes(dice, f"job{number}", fenced) for number in range(dice.choice((1, 1, 2, 3))))
    return Scenario(
        weather,
        dice.choice((Pace(), Pace(), Pace(2, 4), Pace(1, 3))),
        dice.choice((None, None, None, 2, 5)),
        dice.choice((0, 0, 3, 120)),
        jobs,
        shared_process=dice.random() < 0.25,
        long_gaps=dice.random() < 0.1,
    )


def _wishes(dice: Random, name: str, fenced: bool) -> Wishes:
    place: Any = dice.choice(("save", "save", "output", "output", "nowhere"))
    folder = dice.choice(("storage://shop/", "storage://shop/", f"storage://shop/{name}/"))
    return Wishes(
        name=name,
        images=dice.choice((1, 1, 2, 4)),
        max_submissions=dice.choice((1, 1, 2, 3)),
        timeout=dice.choice((5.0, 20.0, 60.0, 180.0)),
        save=place == "save",
        output=folder if place == "output" else None,
        own_folder=dice.random() < 0.5,
        fenced=fenced,
        filename=f"bicycle-{name}" if dice.random() < 0.3 else None,
        attempts=dice.choice((1, 2, 2, 3, 4)),
        retries=dice.choice((0, 1, 3)),
        search_seconds=dice.choice((0.0, 30.0, 120.0)),
        drifts=dice.random() < 0.15,
        deferred=not fenced and dice.random() < 0.3,
        told=not fenced and dice.random() < 0.5,
        stale=dice.random() < 0.3,
    )
