import pytest

from pipeline.config import parse_job
from pipeline.errors import RequestError
from pipeline.folder import JobFolder
from pipeline.storage import StoragePath


def _job(**training):
    return parse_job(
        {
            "name": "tiny",
            "data": {"train": "builtin:digits"},
            "backbone": {"name": "resnet18"},
            "training": {"epochs": 2, **training},
            "registry": {"model": "tiny"},
        }
    )


def test_a_folder_keeps_the_settings_of_the_job_that_claimed_it(tmp_path):
    folder = JobFolder(StoragePath.local(tmp_path) / "tiny")
    with folder.locked(_job()):
        folder.claim(_job())
    with (
        pytest.raises(
            RequestError,
            match=r"started with training.epochs: 2 and now has 3; give .* another name",
        ),
        folder.locked(_job(epochs=3)),
    ):
        pytest.fail("the folder must not open for another job")


def test_a_folder_that_nobody_claimed_opens_for_any_job(tmp_path):
    folder = JobFolder(StoragePath.local(tmp_path) / "tiny")
    with folder.locked(_job()):
        pass
    with folder.locked(_job(epochs=3)):
        assert not folder.is_claimed


def test_two_commands_never_work_on_one_job_at_once(tmp_path):
    folder = JobFolder(StoragePath.local(tmp_path) / "tiny")
    with (
        folder.locked(_job()),
        pytest.raises(RequestError, match="'tiny' is being worked on in"),
        folder.locked(_job()),
    ):
        pytest.fail("the folder must not open twice")
