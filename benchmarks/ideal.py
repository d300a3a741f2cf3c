"""The fastest legal schedules, and how fairly a schedule was shared; times in seconds from the start."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

PER_SECOND, PER_MINUTE = 4, 120


def sliding_times(count: int, per_second: int = PER_SECOND, per_minute: int = PER_MINUTE) -> list[float]:
    """Return the earliest send times under sliding windows, all of a second at once."""
    return [60.0 * (k // per_minute) + (k % per_minute) // per_second for k in range(count)]


def fixed_times(count: int, start: float) -> list[float]:
    """Return the earliest send times of a client that knows where the clock's windows end; `start`: epoch seconds."""
    in_second: Counter[int] = Counter()
    in_minute: Counter[int] = Counter()
    times, moment = [], start
    for _ in range(count):
        while in_minute[int(moment // 60)] >= PER_MINUTE or in_second[int(moment)] >= PER_SECOND:
            full = in_minute[int(moment // 60)] >= PER_MINUTE
            moment = float((moment // 60 + 1) * 60) if full else float(math.floor(moment) + 1)
        in_second[int(moment)] += 1
        in_minute[int(moment // 60)] += 1
        times.append(moment - start)
    return times


def makespan(times: Sequence[float], latencies: Sequence[float]) -> float:
    """Return when the last picture is there, if the k-th admitted request takes the k-th latency."""
    return max(time + latency for time, latency in zip(times, latencies, strict=True))


def reached(requests: Sequence[Mapping[str, Any]], per_second: int, per_minute: int) -> tuple[float, float]:
    """
    Return the seconds from the first to the last of the paid requests that a sandbox reports, and the ideal for them.

    Both end with the last answer; the ideal takes the latencies by order of admission.
    """
    paid = sorted((each for each in requests if each["credits"]), key=lambda each: each["monotonic"])
    latencies = [each["seconds"] for each in paid]
    end = max(each["monotonic"] + each["seconds"] for each in paid)
    best = makespan(sliding_times(len(paid), per_second, per_minute), latencies)
    return end - paid[0]["monotonic"], best


def jain(shares: Sequence[float]) -> float:
    """Return Jain's fairness index: 1 if all shares are equal, 1/n if one has everything."""
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 0.0
