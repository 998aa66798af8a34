"""What is told to a store that is away is delivered when it is back: in order, once, and nobody waits."""

import threading
import time

import pytest
import requests
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE

from pipeline.errors import JobError
from pipeline.registry import outbox as outbox_module
from pipeline.registry.failures import OutageError, tracking_failures
from pipeline.registry.outbox import Outbox


class Heard:
    """Keeps what a user would read."""

    def __init__(self):
        self.facts, self.waits = [], []

    def say(self, text):
        self.facts.append(text)

    def advance(self, what, done, total):
        self.waits.append((what, done <= total, total))


class Store:
    """Keeps what it is told, unless it is away."""

    def __init__(self):
        self.is_away = False
        self.told = []

    @tracking_failures("log an epoch")
    def tell(self, fact):
        if self.is_away:
            raise requests.ConnectionError("refused")
        self.told.append(fact)
        return fact


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def heard():
    return Heard()


@pytest.fixture
def outbox(heard, monkeypatch):
    monkeypatch.setattr(outbox_module, "MAX_PAUSE_S", 0.05)
    monkeypatch.setattr(outbox_module, "_GRACE_S", 0.0)
    with Outbox(heard) as opened:
        yield opened


@pytest.mark.faults
def test_what_is_put_in_an_outage_is_delivered_after_it_in_order(outbox, store, heard):
    store.is_away = True
    for fact in range(5):
        outbox.put(lambda fact=fact: store.tell(fact))
    time.sleep(0.2)
    assert store.told == []
    store.is_away = False
    assert outbox.ask(lambda: store.tell("last")) == "last"
    assert store.told == [0, 1, 2, 3, 4, "last"]
    away, back = heard.facts
    assert away.startswith("the tracking store does not answer (ConnectionError: refused): the job goes on")
    assert back == "the tracking store answers again; everything was delivered"


def test_nobody_waits_for_what_is_put(outbox):
    go_on = threading.Event()
    outbox.put(go_on.wait)
    outbox.put(go_on.set)  # would never be reached if the first were waited for
    go_on.set()
    outbox.ask(lambda: None)


@pytest.mark.faults
def test_a_question_waits_visibly_and_for_a_stated_time(outbox, store, heard):
    store.is_away = True
    with pytest.raises(JobError, match=r"within 0.005 min.*the same command.*trains nothing twice"):
        outbox.ask(lambda: store.tell("x"), patience_s=0.3)
    assert ("waiting for the tracking store", True, 0.3) in heard.waits
    outbox.put(lambda: store.tell("y"))
    with pytest.raises(JobError, match=r"within 0.005 min"):
        outbox.ask(lambda: store.tell("z"), patience_s=0.3)


@pytest.mark.faults
def test_a_refusal_holds_up_nothing_and_is_told_at_the_next_question(outbox, store):
    def refused():
        raise JobError("the run was deleted")

    outbox.put(refused)
    outbox.put(lambda: store.tell("next"))
    with pytest.raises(JobError, match="the run was deleted"):
        outbox.ask(lambda: store.tell("answer"))
    assert store.told == ["next"]
    assert outbox.ask(lambda: store.tell("answer")) == "answer"


def fail(error, cause=None):
    with tracking_failures("log an epoch"):
        try:
            if cause:
                raise cause
        finally:
            raise error


def response(status):
    answer = requests.Response()
    answer.status_code = status
    return answer


@pytest.mark.parametrize(
    "failure",
    [
        (MlflowException("API request failed"), requests.ConnectionError("refused")),
        (MlflowException("API request failed"), requests.exceptions.RetryError("too many 503")),
        (MlflowException("API request failed"), requests.ReadTimeout("30 s")),
        (MlflowException("database is locked", error_code=TEMPORARILY_UNAVAILABLE), None),
        (requests.HTTPError("502", response=response(502)), None),
    ],
)
def test_what_another_try_may_mend_is_an_outage(failure):
    with pytest.raises(OutageError, match=r"it failed to log an epoch \("):
        fail(*failure)


@pytest.mark.parametrize(
    "error", [MlflowException("no such run"), requests.HTTPError("403", response=response(403))]
)
def test_a_refusal_is_no_outage(error):
    with pytest.raises(JobError, match=r"it failed to log an epoch \(") as caught:
        fail(error)
    assert not isinstance(caught.value, OutageError)
