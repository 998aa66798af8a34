"""A queue before one model: whatever waits is run batch by batch, at the depth that the policy says."""

import asyncio
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pipeline.evaluation.table import ProfileTable

from .costs import Costs
from .policy import FollowingPolicy, Load, Waiting, worth_choosing
from .report import Record, Report

WINDOW_TARGETS, MIN_WINDOW_S = 20, 1.0
"""Arrivals are counted over so many targets, and so long at least. Chosen: long enough not to take a few
requests that come together for a load, short against a load that changes."""

PACE_WEIGHT, PACE_LIMITS = 0.1, (0.2, 5.0)
"""How much the latest batch counts in the pace, and what it counts at most. Chosen: some ten batches tell,
one that was held up does not."""


@dataclass(frozen=True, eq=False)
class _Request:
    call: Any
    arrived_s: float
    outcome: asyncio.Future[tuple[np.ndarray, str]]

    @property
    def num_images(self) -> int:
        return len(self.call.images_BCHW)


class Follower:
    """Answers calls of one model from one event loop; one batch runs at a time, in a thread of its own.

    Args:
        run: Runs images of shape (B, C, H, W) at a profile and returns logits of shape (B, K).
        table: What the profiles reach.
        costs: Of batches.
        target_ms: Time from arrival to answer that 95 of 100 requests are to keep.
    """

    def __init__(
        self,
        run: Callable[[torch.Tensor, str], np.ndarray],
        table: ProfileTable,
        costs: Costs,
        target_ms: float,
    ) -> None:
        self.record = Record(table, target_ms)
        self._run = run
        self._costs = costs
        self._policy = FollowingPolicy(worth_choosing(table, costs), costs, target_ms)
        self._window_s = max(MIN_WINDOW_S, WINDOW_TARGETS * target_ms / 1000)
        self._queue: list[_Request] = []
        self._unread: list[float] = []
        self._arrivals: deque[tuple[float, str | None, int]] = deque()
        self._pace = 1.0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._server: asyncio.Task[None] | None = None

    @contextmanager
    def reading(self, arrived_s: float) -> Iterator[None]:
        """Count a request that arrived as waiting while its images are decoded.

        Args:
            arrived_s: As for `answer`.
        """
        self._unread.append(arrived_s)
        try:
            yield
        finally:
            self._unread.remove(arrived_s)

    async def answer(self, call: Any, arrived_s: float) -> tuple[np.ndarray, str]:  # noqa: ANN401
        """Queue a call and return its logits, shape (B, K), and the profile that it ran at.

        Args:
            call: What the model's `read` returned.
            arrived_s: When it came, on the clock of `time.monotonic`.
        """
        request = _Request(call, arrived_s, asyncio.get_running_loop().create_future())
        self._queue.append(request)
        self._arrivals.append((arrived_s, call.profile, request.num_images))
        if self._server is None or self._server.done():
            self._server = asyncio.create_task(self._serve())
        return await request.outcome

    def report(self) -> Report:
        """Return what was answered so far."""
        return self.record.report(time.monotonic(), len(self._queue) + len(self._unread))

    async def _serve(self) -> None:
        """Run batches until nothing waits."""
        while self._queue:
            batch = self._policy.next_batch(self._load())
            requests = [self._queue[place] for place in batch.places]
            self._queue = [request for request in self._queue if request not in requests]
            await self._run_batch(requests, batch.profile)
            # Who gave up in the meantime is not waited for.
            self._queue = [request for request in self._queue if not request.outcome.done()]

    async def _run_batch(self, requests: list[_Request], profile: str) -> None:
        start_s = time.monotonic()
        loop = asyncio.get_running_loop()
        try:
            images_BCHW = torch.cat([request.call.images_BCHW for request in requests])
            logits_BK = await loop.run_in_executor(self._thread, self._run, images_BCHW, profile)
        except Exception as error:  # noqa: BLE001 (raised again by those who wait for it)
            for request in requests:
                _settle(request, error)
            return
        now_s = time.monotonic()
        self._learn_pace(now_s - start_s, profile, len(images_BCHW))
        sizes = [request.num_images for request in requests]
        for request, logits in zip(requests, np.split(logits_BK, np.cumsum(sizes)[:-1]), strict=True):
            self.record.add(now_s, profile, request.num_images, (now_s - request.arrived_s) * 1000)
            _settle(request, (logits, profile))

    def _load(self) -> Load:
        now_s = time.monotonic()
        while self._arrivals and self._arrivals[0][0] < now_s - self._window_s:
            self._arrivals.popleft()
        arrived: Counter[str | None] = Counter()
        for _, profile, num_images in self._arrivals:
            arrived[profile] += num_images
        queue = [
            Waiting(request.num_images, (now_s - request.arrived_s) * 1000, request.call.profile)
            for request in self._queue
        ]
        # What is not read yet is taken to be like the others.
        num_images = math.ceil(arrived.total() / len(self._arrivals)) if self._arrivals else 1
        unread = [Waiting(num_images, (now_s - arrived_s) * 1000) for arrived_s in self._unread]
        rates = {profile: number / self._window_s for profile, number in arrived.items()}
        return Load(queue, rates, self._pace, unread)

    def _learn_pace(self, seconds: float, profile: str, num_images: int) -> None:
        least, most = PACE_LIMITS
        seen = min(most, max(least, seconds * 1000 / self._costs.batch_ms(profile, num_images)))
        self._pace += PACE_WEIGHT * (seen - self._pace)


def _settle(request: _Request, outcome: tuple[np.ndarray, str] | Exception) -> None:
    """Tell the one who waits, unless it has given up."""
    if request.outcome.done():
        return
    if isinstance(outcome, Exception):
        request.outcome.set_exception(outcome)
    else:
        request.outcome.set_result(outcome)
