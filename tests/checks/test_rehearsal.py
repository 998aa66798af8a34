import re
import subprocess
import sys

import pytest
import yaml

from pipeline.errors import RequestError
from pipeline.preflight import checked_job

from .wrong_jobs import WRONG_JOBS, changed


@pytest.fixture
def storage(tmp_path):
    return tmp_path / "runs"


@pytest.mark.parametrize(("changes", "words"), WRONG_JOBS.values(), ids=WRONG_JOBS)
def test_what_fails_in_a_worker_is_refused_by_key_and_value(storage, changes, words):
    data = changed({**changes, "storage": str(storage)})
    with pytest.raises(RequestError, match=re.escape(words[0])) as refused:
        checked_job(data)
    assert [word for word in words if word not in str(refused.value)] == []
    assert not storage.exists()
