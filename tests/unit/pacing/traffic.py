"""Traffic in simulated time: processes with one schedule, others beside them, and a server that counts exactly."""

from __future__ import annotations

import heapq
import math
import random
from dataclasses import dataclass, field
from itertools import count

from airflow_provider_claid.pacing.schedule import Pace, Schedule
from airflow_provider_claid.pacing.window import Quota
from airflow_provider_claid.sandbox.windows import NANOSECONDS, AnchoredWindow, FixedWindow, Policy, SlidingWindow

WINDOWS = {"sliding": SlidingWindow, "fixed": FixedWindow, "anchored": AnchoredWindow}
ROUNDINGS = {"up": math.ceil, "down": math.floor, "nearest": round, "not": float}
PER_SECOND, PER_MINUTE = Policy(4, 1), Policy(120, 60)


class Server:
    """The account's windows of the minute and the second; `phase` is the second of the server's minute at time 0."""

    def __init__(self, minute="fixed", second="sliding", rounding="up", phase=0.0):
        self.minute = WINDOWS[minute](PER_MINUTE)
        self.second = WINDOWS[second](PER_SECOND)
        self.rounding = ROUNDINGS[rounding]
        self.phase = phase

    def count(self, time):
        """Count a request; return whether it is accepted, and what the answer says."""
        now = round((time + self.phase) * NANOSECONDS)
        full = [
            (policy, window)
            for policy, window in ((PER_MINUTE, self.minute), (PER_SECOND, self.second))
            if window.used(now) >= policy.limit
        ]
        if full:
            policy, window = max(full, key=lambda each: each[1].reset(now))
            return False, self._said(policy, -1, window, now)
        self.minute.count(now)
        self.second.count(now)
        return True, self._said(PER_MINUTE, PER_MINUTE.limit - self.minute.used(now), self.minute, now)

    def _said(self, policy, remaining, window, now):
        return Quota(policy.seconds, policy.limit, remaining, float(self.rounding(window.reset(now) / NANOSECONDS)))


@dataclass
class Plan:
    """What is sent: our requests begin at the moments `starts`, each split over all processes; others send alone."""

    processes: int = 4
    requests: int = 240
    starts: tuple[float, ...] = (1000.0,)
    in_flight: int = 64
    jitter: float = 0.05
    delay: float = 0.02
    latency: tuple[float, float] = (1.0, 8.0)
    others: tuple[float, ...] = ()
    lost: float = 0.0
    seed: int = 0


@dataclass
class Traffic:
    """What happened; times in seconds. `accepted` and `latencies` are by order of admission."""

    schedule: Schedule
    accepted: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    refused: list[Quota] = field(default_factory=list)
    refused_others: int = 0
    unexplained: int = 0
    proven_at: float | None = None
    ended: float = 0.0


def ideal(latencies, windows, phase=0.0):
    """Return the makespan of a client that knows the server's windows and sends whenever they have room."""
    server, now, ends = Server(windows, windows, "not", phase), 0.0, []
    for latency in latencies:
        while not (counted := server.count(now))[0]:
            now += counted[1].reset
        ends.append(now + latency)
    return max(ends)


def run(plan, server, schedule=None):
    """Send all of a plan's requests; each process has one booking outstanding, as the pacer does."""
    return _Run(plan, server, schedule or Schedule()).until_all_is_answered()


class _Run:
    def __init__(self, plan, server, schedule):
        self.plan, self.server, self.chance = plan, server, random.Random(plan.seed)
        self.traffic, self.schedule, self.pace = Traffic(schedule), schedule, Pace()
        self.order, self.events = count(), []
        self.left = [0] * plan.processes
        self.flying = [0] * plan.processes
        self.waits = [False] * plan.processes
        for start in plan.starts:
            self.at(start, self.begin)
        for time in plan.others:
            self.at(time, self.other)

    def at(self, time, action, *arguments):
        heapq.heappush(self.events, (time, next(self.order), action, arguments))

    def until_all_is_answered(self):
        while self.events:
            time, _, action, arguments = heapq.heappop(self.events)
            action(time, *arguments)
        return self.traffic

    def begin(self, now):
        share, rest = divmod(self.plan.requests // len(self.plan.starts), self.plan.processes)
        for process in range(self.plan.processes):
            self.left[process] += share + (process < rest)
            self.book(now, process)

    def book(self, now, process):
        full = self.flying[process] >= max(1, self.plan.in_flight // self.plan.processes)
        if self.waits[process] or full or not self.left[process]:
            return
        self.waits[process] = True
        self.left[process] -= 1
        due = self.schedule.book(now, self.pace)
        assert due >= now
        self.at(due + self.chance.uniform(0, self.plan.jitter / 2), self.send, process, due)

    def send(self, now, process, due):
        self.waits[process] = False
        if self.chance.random() >= self.plan.lost:
            self.flying[process] += 1
            arrives = now + self.plan.delay + self.chance.uniform(0, self.plan.jitter / 2)
            self.at(arrives, self.arrive, process, due)
        self.book(now, process)

    def arrive(self, now, process, due):
        accepted, quota = self.server.count(now)
        if not accepted:
            self.traffic.refused.append(quota)
            self.at(now + self.plan.delay, self.refuse, process, due, quota)
            return
        latency = self.chance.uniform(*self.plan.latency)
        self.traffic.accepted.append(now)
        self.traffic.latencies.append(latency)
        self.at(now + latency, self.answer, process, due, quota)

    def refuse(self, now, process, due, quota):
        self.traffic.unexplained += not self.schedule.refused(now, due, self.pace, quota)
        self.flying[process] -= 1
        self.left[process] += 1
        self.book(now, process)

    def answer(self, now, process, due, quota):
        self.traffic.ended = now
        self.traffic.unexplained += not self.schedule.accepted(due, now - due, quota)
        window = self.schedule.window
        if window and window.proven and self.traffic.proven_at is None:
            self.traffic.proven_at = now
        self.flying[process] -= 1
        self.book(now, process)

    def other(self, now):
        self.traffic.refused_others += not self.server.count(now)[0]
