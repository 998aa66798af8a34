"""An open-loop load: requests are sent when they are due, whether earlier ones are answered or not.

A latency counts from the moment a request was due, so that a client that falls behind does not flatter the
server. Run as a script by `load_following`, in a process of its own.
"""

import asyncio
import json
import random
import sys
import time
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import aiohttp

TIMEOUT_S = 600.0
"""Chosen: longer than any queue that a run builds up."""


@dataclass(frozen=True)
class Sent:
    """A request: when it was due, how long the answer took from then on, and what it was.

    Attributes:
        due_s: Since the start of the load.
        latency_ms: Until the whole answer was there, or the error.
        profile: That answered; None if there was an error.
    """

    due_s: float
    latency_ms: float
    profile: str | None


@dataclass(frozen=True)
class Ramp:
    """A load over time, on straight lines between points of (seconds, requests a second)."""

    points: tuple[tuple[float, float], ...]

    @property
    def end_s(self) -> float:
        """When it ends."""
        return self.points[-1][0]

    def rate(self, time_s: float) -> float:
        """Return requests a second at a time."""
        after = min(max(1, bisect_right([time for time, _ in self.points], time_s)), len(self.points) - 1)
        (start_s, start), (end_s, end) = self.points[after - 1 : after + 1]
        return start + (end - start) * (time_s - start_s) / (end_s - start_s)

    def arrivals(self, seed: int) -> list[float]:
        """Return times in seconds of a Poisson process with this rate."""
        draw, most = random.Random(seed), max(rate for _, rate in self.points)
        gaps = (draw.expovariate(most) for _ in iter(int, 1))
        times = []
        for time_s in accumulate(gaps):
            if time_s >= self.end_s:
                return times
            if draw.random() * most < self.rate(time_s):
                times.append(time_s)
        return times


async def send_all(url: str, bodies: Sequence[bytes], due_s: Sequence[float]) -> list[Sent]:
    """Send a request at each of the times, the bodies in turns, and wait for all answers."""
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        start_s = time.monotonic()

        async def send(number: int, due: float) -> Sent:
            await asyncio.sleep(start_s + due - time.monotonic())
            profile = await _profile(session, url, bodies[number % len(bodies)])
            return Sent(due, (time.monotonic() - start_s - due) * 1000, profile)

        return await asyncio.gather(*(send(number, due) for number, due in enumerate(due_s)))


async def _profile(session: aiohttp.ClientSession, url: str, body: bytes) -> str | None:
    try:
        async with session.post(url, data=body, headers={"Content-Type": "application/json"}) as response:
            answer: dict[str, Any] = await response.json()
    except (aiohttp.ClientError, TimeoutError):
        return None
    return answer["predictions"]["profile"] if response.status == 200 else None


async def throughput(url: str, bodies: Sequence[bytes], *, callers: int, seconds: float) -> float:
    """Return answers a second where callers send their next request as soon as they have an answer."""
    async with aiohttp.ClientSession() as session:
        end_s, counted = time.monotonic() + seconds, 0

        async def call(number: int) -> None:
            nonlocal counted
            while time.monotonic() < end_s:
                if await _profile(session, url, bodies[number % len(bodies)]) is not None:
                    counted += 1

        await asyncio.gather(*map(call, range(callers)))
    return counted / seconds


def main(request: Path, result: Path) -> None:
    """Send what a file says and write what came back."""
    given = json.loads(request.read_text())
    bodies = [body.encode() for body in given["bodies"]]
    sent = asyncio.run(send_all(given["url"], bodies, given["due_s"]))
    result.write_text(json.dumps([asdict(one) for one in sent]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
