"""The same weights bit for bit, run after run, on the same machine with the same number of workers."""

import os
import random

import numpy as np
import torch

from pipeline.data.random_state import mix_seed


def be_deterministic() -> None:
    """Let this process compute the same from the same, until it ends.

    Called once by a training worker, before it builds anything; never undone, so no part of a run is computed
    in another way than the rest. Operations that cannot be deterministic (some backward passes on a GPU)
    raise RuntimeError, which names them. The number of threads, on which sums depend, is fixed by the job.
    """
    # cuBLAS is deterministic only with a fixed workspace, which it reads when it starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    # Otherwise cuDNN times its algorithms, and the fastest one may be another in the next run.
    torch.backends.cudnn.benchmark = False


def seed_epoch(seed: int, *, epoch: int, rank: int, update: int = 0) -> None:
    """Let everything that a worker draws from an update of an epoch on follow from numbers, on every device.

    So a run that goes on at an epoch draws what an uninterrupted one would, and no checkpoint holds a random
    state. Where one is written within an epoch, the run that wrote it seeds anew as well. Python and NumPy
    are seeded for parts that draw from them, such as timm's mixup.
    """
    mixed = mix_seed(seed, epoch, rank, *([update] if update else []))
    random.seed(mixed)
    np.random.seed(mixed % 2**32)
    torch.manual_seed(mixed)
