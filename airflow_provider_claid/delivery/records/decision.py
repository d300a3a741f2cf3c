"""What to do about a job, from what is written down of it: a pure function (design §4 "Records")."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from airflow_provider_claid.api.models import GenerateRequest
from airflow_provider_claid.delivery.records.submission import Submission, latest


@dataclass(frozen=True)
class Asked:
    """
    What an attempt of a task asks for.

    `generation` grows when a person clears the task (`records.attempts`). `max_submissions` is how often the job may be
    paid for, over all its attempts.
    """

    generation: int
    fingerprint: str
    request: GenerateRequest
    reuse: bool = True
    max_submissions: int = 1


@dataclass(frozen=True)
class Send:
    """
    Send a request as submission `number`; `spare` more may follow it. The job may then have been paid `times`.

    `overruled`: the recorded request counts, and its `fingerprint`, not what was asked for now.
    """

    number: int
    first: int
    request: GenerateRequest
    fingerprint: str
    spare: int = 0
    overruled: bool = False
    times: int = 1


@dataclass(frozen=True)
class Use:
    """Take the pictures of this submission; the job was paid `times`, as far as is known."""

    submission: Submission
    times: int
    overruled: bool = False


@dataclass(frozen=True)
class Await:
    """Wait for the end of this submission, which another attempt began."""

    submission: Submission


@dataclass(frozen=True)
class Lost:
    """
    The outcome of this submission is unknown. Look for its pictures if they are this job's (`own`); else do what is
    `next`, or nothing more without that: all submissions are used up.
    """  # noqa: D205

    submission: Submission
    own: bool
    next: Send | None


@dataclass(frozen=True)
class Superseded:
    """A later attempt, of a person who cleared the task, has begun: this one has nothing to do any more."""

    submission: Submission


Plan = Send | Use | Await | Lost | Superseded


def is_new_wish(history: Sequence[Submission], asked: Asked) -> bool:
    """Tell whether a person who cleared the task has asked for something else than what is recorded last, of some."""
    last = latest(history)
    unchanged = asked.fingerprint == last.intent.fingerprint
    return asked.generation > last.generation and not (asked.reuse and unchanged)


def decide(history: Sequence[Submission], asked: Asked) -> Plan:
    """
    Decide what an attempt does, given all submissions of its task instance in order.

    In the same generation the recorded request counts, whatever a template renders to now. In a new one what is
    unchanged is used again; what changed, or `reuse=False`, is another job. A submission that may have been paid counts
    for that one too.
    """
    if not history:
        return Send(1, 1, asked.request, asked.fingerprint, asked.max_submissions - 1)
    for submission in history:
        if submission.state == "open":
            return Await(submission)
    begun, number = latest(history), history[-1].number + 1
    last, generation = begun.intent, begun.generation
    if asked.generation < generation:
        return Superseded(begun)
    goes_on = not is_new_wish(history, asked)
    first = last.first if goes_on else number
    overruled = asked.generation == generation and asked.fingerprint != last.fingerprint
    unknown = [submission for submission in history if submission.state == "unknown"]
    job = [submission for submission in history if submission.intent.first == first]
    paid = sum(submission.state != "unbilled" for submission in job)
    if delivered := [submission for submission in job if submission.delivered]:
        return Use(delivered[-1], paid, overruled)
    left = asked.max_submissions - len(unknown)
    wish = (last.request, last.fingerprint) if goes_on else (asked.request, asked.fingerprint)
    send = Send(number, first, *wish, left - 1, overruled, paid + 1)
    own = [submission for submission in job if submission.state == "unknown"]
    if own or left <= 0:
        return Lost((own or unknown)[-1], bool(own), send if left > 0 else None)
    return send
