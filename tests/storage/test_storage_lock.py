"""One command at a time, in a store as on a disk."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import asdict

import pytest

from pipeline.storage import StoragePath, lock
from pipeline.storage.lock import LOCK, HeldError, Holder, Lease, locked
from pipeline.storage.object_store import SCHEME, S3Location
from pipeline.storage.s3_files import open_store

ELSEWHERE = Holder("another-host", 1, "other")


def _silent(_text):
    """Say nothing."""


def _write(folder, holder):
    """Leave a lock as another command would."""
    (folder / LOCK).write_text(json.dumps({"holder": asdict(holder), "write": 1}))


def _holder(folder):
    lease = S3Location.parse(f"{SCHEME}{(folder / LOCK).path}")
    client = open_store(folder.filesystem.handler.s3).client  # in one request, between renewals
    answer = client.get_object(Bucket=lease.bucket, Key=lease.path)
    return json.loads(answer["Body"].read())["holder"]


@pytest.fixture
def folder(s3, prefix):
    return StoragePath.parse(prefix, s3)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Seconds instead of a minute."""
    monkeypatch.setattr(lock, "RENEWAL_S", 0.2)
    monkeypatch.setattr(lock, "LEASE_S", 3.0)


def test_a_folder_is_held_once_and_free_afterwards(place):
    with (
        locked(place, _silent),
        pytest.raises(HeldError, match=r"another command on this machine|process \d+"),
        locked(place, _silent),
    ):
        pytest.fail("the folder must not be held twice")
    with locked(place, _silent):
        pass


@pytest.mark.faults
def test_a_command_that_was_killed_on_another_machine_gives_the_folder_up_after_its_lease(folder):
    _write(folder, ELSEWHERE)
    said, start_s = [], time.monotonic()
    with locked(folder, said.append):
        waited_s = time.monotonic() - start_s
    assert 1 < waited_s < 30
    (text,) = said
    assert text.startswith("process 1 on another-host worked on this job")


@pytest.mark.faults
def test_a_command_that_was_killed_on_this_machine_gives_the_folder_up_at_once(folder):
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    _write(folder, Holder(pid=process.pid, token="dead"))
    said = []
    with locked(folder, said.append):
        pass
    assert said == []


@pytest.mark.faults
def test_of_many_commands_that_find_a_dead_lock_one_takes_it(folder, monkeypatch):
    monkeypatch.setattr(lock, "LEASE_S", 60.0)
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    _write(folder, Holder(pid=process.pid, token="dead"))
    taken, over = [], threading.Event()

    def take():
        try:
            with locked(folder, _silent):
                taken.append(threading.get_ident())
                over.wait(60)
        except HeldError:
            pass

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    while sum(thread.is_alive() for thread in threads) > 1:  # until the others gave up
        time.sleep(0.1)
    over.set()
    for thread in threads:
        thread.join()
    assert len(taken) == 1


@pytest.fixture
def _hears_interrupts():
    """Also where a script runs the tests in the background, with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@contextmanager
def _taken(folder):
    """Let another command take the lock, again where a renewal wins: the test's server looks, then writes."""
    over = threading.Event()

    def take():
        while not over.wait(0.3):
            _write(folder, ELSEWHERE)

    thread = threading.Thread(target=take)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.faults
@pytest.mark.usefixtures("_hears_interrupts")
def test_a_command_that_lost_its_lock_is_interrupted(folder):
    with pytest.raises(KeyboardInterrupt), locked(folder, _silent), _taken(folder):  # noqa: PT011  no message
        time.sleep(30)
    assert _holder(folder)["token"] == "other"


@pytest.mark.faults
@pytest.mark.usefixtures("_hears_interrupts")
def test_a_command_that_lost_its_lock_and_goes_on_is_interrupted_again(folder):
    with locked(folder, _silent), _taken(folder):
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):  # noqa: PT011  it has no message
                time.sleep(30)


@pytest.mark.faults
def test_a_lock_whose_answer_was_lost_is_still_ones_own(folder, s3):
    lease = Lease((folder / LOCK).path, s3)
    lease.acquire(_silent)
    lease.acquire(_silent)
    assert _holder(folder)["pid"] == os.getpid()
    lease.release()
    assert not (folder / LOCK).exists()


@pytest.mark.faults
def test_a_lock_file_of_the_future_keeps_nobody_out(tmp_path):
    (tmp_path / LOCK).touch()
    os.utime(tmp_path / LOCK, (time.time() + 86_400,) * 2)
    with locked(StoragePath.local(tmp_path), _silent):
        pass


@pytest.mark.faults
def test_a_store_that_is_away_is_told_once_and_the_lock_kept(folder, store):
    said = []
    with locked(folder, said.append):
        holder = _holder(folder)
        with store.away():
            time.sleep(2)
        time.sleep(1)
        assert _holder(folder) == holder
    away, back = said
    assert away.startswith("the object store must answer, http://")
    assert back == "the object store answers again"
