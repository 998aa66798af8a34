"""A job whose storage is an object store, which becomes slow, goes away, and refuses its credentials."""

import time

import pytest

from tests.faults.commands import write_job
from tests.s3_server import BUCKET

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.slow]

OUTAGE_S = 30


@pytest.fixture
def job(store, tmp_path):
    """Writes a job that is kept in the store; returns the prefix of its folder."""
    write_job(
        tmp_path,
        training={"epochs": 30},
        storage=f"s3://{BUCKET}/{tmp_path.name}",
        s3={"endpoint_url": store.url},
        registry={"tracking_uri": f"sqlite:///{tmp_path / 'mlflow.db'}"},
    )
    return f"{tmp_path.name}/broken"


@pytest.mark.usefixtures("job")
def test_a_training_waits_for_a_store_that_is_away(start, store):
    command = start("train", "job.yaml")
    command.until("epoch 2/30")
    with store.away():
        time.sleep(OUTAGE_S)
    assert command.end() == 0
    assert "epoch 30/30" in command.printed
    assert "the object store must answer, " in command.printed
    assert "the object store answers again" in command.printed
    assert "training goes on after" not in command.printed


@pytest.mark.usefixtures("job")
def test_a_training_whose_credentials_expire_says_so_and_goes_on_with_others(start, store):
    command = start("train", "job.yaml")
    command.until("epoch 2/30")
    store.faults.refuses_with = "ExpiredToken"
    assert command.end() == 1
    assert "ExpiredToken" in command.printed
    store.faults.clear()
    again = start("train", "job.yaml")
    assert again.end() == 0
    assert "epoch 2/30" not in again.printed
