"""What a cluster says that it can become: the nodes that its autoscaler starts when they are needed.

Ray has a place for it, but neither KubeRay nor `ray up` fills it (2.60), so a definition tells the head
(cluster/kuberay, cluster/cloud).
"""

import re

from pipeline.errors import RequestError

GROWS_TO = "SKIPLINE_CLUSTER_GROWS_TO"
"""Environment variable of the head, such as `nodes=4,CPU=8,GPU=1`: up to 4 workers of that size."""

_PATTERN = re.compile(r"nodes=(\d+),CPU=(\d+),GPU=(\d+)")


def promised_nodes(text: str) -> tuple[tuple[int, int], ...]:
    """Return CPUs and GPUs of each node that a cluster can start.

    Args:
        text: As in `GROWS_TO`.

    Raises:
        RequestError: If it cannot be read.
    """
    said = _PATTERN.fullmatch(text)
    if said is None:
        raise RequestError(
            f"{GROWS_TO} must be like nodes=4,CPU=8,GPU=1, got {text!r}; correct it where the head of the "
            "cluster is started"
        )
    num_nodes, cpus, gpus = map(int, said.groups())
    return ((cpus, gpus),) * num_nodes
