"""Looks at the Ray cluster that jobs would run on."""

import os

from cluster.runtime import WAY_OUT, is_embedded, silence

from .findings import Problem


def ray_cluster() -> str:
    """Return where Ray listens; raises Problem where RAY_ADDRESS leads nowhere."""
    if (reason := silence()) is not None:
        raise Problem(reason, WAY_OUT)
    if is_embedded():
        return "RAY_ADDRESS is not set; Ray runs where the command does"
    return f"{os.environ['RAY_ADDRESS']} accepts connections"
