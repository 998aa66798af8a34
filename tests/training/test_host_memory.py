"""What a step frees stays with the process."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import torch
from pipeline.training.host_memory import keep_freed_memory

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

if {keeps}:
    keep_freed_memory()
before = resident()
tensors = [torch.ones(4 * 2**20) for _ in range(16)]
del tensors
print(resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc that is told to keep memory")
def test_freed_memory_is_kept_where_it_is_asked_for():
    grown = {
        keeps: int(
            subprocess.run(
                [sys.executable, "-c", PROGRAM.format(keeps=keeps)],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
        for keeps in (False, True)
    }
    assert grown[True] > 200 * 2**20 > grown[False]
