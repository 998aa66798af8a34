"""A queue before one server, as a simulation of events: arrivals are given, batches take what they cost."""

import random
from collections import Counter
from dataclasses import dataclass

from pipeline.following.policy import FollowingPolicy, Load, Waiting

WINDOW_MS = 1000


@dataclass(frozen=True)
class Answered:
    """A request: when it came, how long it took, and at which profile it ran."""

    arrival_ms: float
    latency_ms: float
    profile: str


def poisson_arrivals(phases, seed=0):
    """Return arrival times in ms, for phases of (requests a second, seconds)."""
    draw, now, end, arrivals = random.Random(seed), 0.0, 0.0, []
    for per_s, seconds in phases:
        end += seconds * 1000
        while (now := now + draw.expovariate(per_s / 1000)) < end:
            arrivals.append(now)
        now = end
    return arrivals


def simulate(policy: FollowingPolicy, costs, arrivals, *, slowdown=lambda _: 1.0, asked=lambda _: None):
    """Serve requests of one image each; returns them in the order of their answers."""
    arrivals = list(enumerate(arrivals))
    waiting, recent, answered, now_ms = [], [], [], 0.0
    while arrivals or waiting:
        if not waiting:
            now_ms = max(now_ms, arrivals[0][1])
        while arrivals and arrivals[0][1] <= now_ms:
            number, time_ms = arrivals.pop(0)
            waiting.append((time_ms, asked(number)))
            recent.append(waiting[-1])
        recent = [item for item in recent if item[0] > now_ms - WINDOW_MS]
        queue = [Waiting(1, now_ms - time_ms, profile) for time_ms, profile in waiting]
        rates = {asked: count * 1000 / WINDOW_MS for asked, count in Counter(p for _, p in recent).items()}
        batch = policy.next_batch(Load(queue, rates))
        now_ms += costs.batch_ms(batch.profile, len(batch.places)) * slowdown(now_ms)
        answered += [
            Answered(waiting[place][0], now_ms - waiting[place][0], batch.profile) for place in batch.places
        ]
        waiting = [item for place, item in enumerate(waiting) if place not in batch.places]
    return answered
