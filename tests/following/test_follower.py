"""The queue before a model, in one event loop without HTTP: what waits together runs together, no more."""

import asyncio
import time

import numpy as np
import pytest
import torch

from pipeline.following.costs import Costs
from pipeline.following.follower import Follower
from pipeline.serving import Call
from tests.registry.conftest import table_of

FULL, BASE = "FFFF", "TTTT"


@pytest.fixture
def ran():
    """What the model was given: profile and number of images of every batch."""
    return []


@pytest.fixture
def follower(ran):
    def run(images_BCHW, profile):
        ran.append((profile, len(images_BCHW)))
        time.sleep(0.02)
        if (images_BCHW < 0).any():
            raise RuntimeError("out of memory")
        return images_BCHW.mean(dim=(2, 3)).numpy()

    table = table_of(4)
    macs = {row.profile: row.macs for row in table.results}
    # A batch costs the same whatever is in it, so all that waits is worth one batch.
    costs = Costs({FULL: {1: 20.0, 8: 20.0}, BASE: {1: 19.0, 8: 19.0}}, macs)
    table = table.__class__(
        tuple(
            row.__class__(**{**vars(row), "is_pareto": row.profile in (FULL, BASE)}) for row in table.results
        ),
        table.num_images,
        table.latency,
    )
    return Follower(run, table, costs, target_ms=1000.0)


def call(value, num_images=1, profile=None):
    return Call(torch.full((num_images, 3, 2, 2), float(value)), profile, "cpu", False)


def ask_all(follower, calls):
    async def ask():
        now_s = time.monotonic()
        answers = (follower.answer(one, now_s) for one in calls)
        return await asyncio.gather(*answers, return_exceptions=True)

    return asyncio.run(ask())


def test_everyone_gets_the_logits_of_their_own_images(follower, ran):
    answers = ask_all(follower, [call(1), call(2, num_images=2), call(3)])
    assert [np.unique(logits).tolist() for logits, _ in answers] == [[1.0], [2.0], [3.0]]
    assert [len(logits) for logits, _ in answers] == [1, 2, 1]
    assert ran == [(FULL, 4)]


def test_one_batch_never_mixes_profiles(follower, ran):
    answers = ask_all(follower, [call(1), call(2, profile=BASE), call(3), call(4, profile=BASE)])
    assert [profile for _, profile in answers] == [FULL, BASE, FULL, BASE]
    assert ran == [(FULL, 2), (BASE, 2)]


def test_a_model_that_fails_is_told_to_those_of_its_batch_alone(follower):
    failed, answered = ask_all(follower, [call(-1), call(2, profile=BASE)])
    with pytest.raises(RuntimeError, match="out of memory"):
        raise failed
    assert answered[1] == BASE


def test_what_is_still_being_read_lets_the_depth_fall(follower):
    async def ask():
        long_ago_s = time.monotonic() - 0.9
        with follower.reading(long_ago_s):
            assert follower.report().queue_length == 1
            _, hurried = await follower.answer(call(1), time.monotonic())
        _, calm = await follower.answer(call(1), time.monotonic())
        return hurried, calm

    assert asyncio.run(ask()) == (BASE, FULL)
    assert follower.report().queue_length == 0


def test_who_gives_up_is_not_run(follower, ran):
    async def ask():
        first = asyncio.create_task(follower.answer(call(1), time.monotonic()))
        await asyncio.sleep(0.005)
        late = asyncio.create_task(follower.answer(call(2), time.monotonic()))
        await asyncio.sleep(0.005)
        late.cancel()
        await first
        await asyncio.sleep(0.05)

    asyncio.run(ask())
    assert ran == [(FULL, 1)]


def test_the_report_counts_requests_images_and_depths(follower):
    ask_all(follower, [call(1), call(2, num_images=3, profile=BASE)])
    told = follower.report()
    assert (told.requests, told.errors, told.queue_length) == (2, 0, 0)
    assert told.since_start.images == {BASE: 3, FULL: 1}
    assert told.since_start.mean_depth == pytest.approx(1 / 4)
    top1 = {row.profile: row.top1 for row in table_of(4).results}
    assert told.last_minute.expected_accuracy == pytest.approx((top1[FULL] + 3 * top1[BASE]) / 4)
    assert 20 <= told.p50_ms <= told.p95_ms
