import errno
import fcntl
import multiprocessing
import time

import pytest

from pipeline.data.cache import node_lock, write_once
from pipeline.data.sources import open_source
from pipeline.errors import JobError


def test_a_file_is_written_once(tmp_path):
    write_once(tmp_path / "new" / "a", lambda file: file.write(b"first"))
    write_once(tmp_path / "new" / "a", lambda file: file.write(b"second"))
    assert (tmp_path / "new" / "a").read_bytes() == b"first"


def test_a_write_that_fails_leaves_no_file(tmp_path):
    def fail(file):
        file.write(b"half")
        raise KeyError("x")

    with pytest.raises(KeyError, match="x"):
        write_once(tmp_path / "a", fail)
    assert [path.name for path in tmp_path.iterdir()] == ["a.lock"]


def test_what_a_killed_process_left_is_written_over(tmp_path):
    (tmp_path / "a.part").write_bytes(b"a longer half")
    write_once(tmp_path / "a", lambda file: file.write(b"whole"))
    assert (tmp_path / "a").read_bytes() == b"whole"
    assert not (tmp_path / "a.part").exists()


def test_a_process_forked_under_a_lock_does_not_keep_it(tmp_path):
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    with node_lock(tmp_path / "lock"):
        child.start()
    with (tmp_path / "lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    child.kill()
    child.join()


def test_a_full_disk_is_said_with_the_way_out(tmp_path):
    def fail(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(JobError, match=r"the disk of .* is full; free some or set SKIPLINE_CACHE_DIR"):
        write_once(tmp_path / "a", fail)


def test_a_cache_folder_that_cannot_be_written_is_named(tar_samples, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SKIPLINE_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(
        JobError, match=r"must be one that can be written, '.*tar-index' is not \(Not a directory\)"
    ):
        open_source(str(tar_samples([0, 1])))
