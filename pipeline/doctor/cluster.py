"""Looks at the Ray cluster that jobs would run on."""

import os
import socket
from urllib.parse import urlsplit

from .findings import NotNeededError, Problem

_TIMEOUT_S = 5.0
_DEFAULT_PORT = 6379


def ray_cluster() -> str:
    """Return where Ray listens; raises Problem where RAY_ADDRESS leads nowhere."""
    address = os.environ.get("RAY_ADDRESS", "")
    if address in ("", "local", "auto"):
        raise NotNeededError("RAY_ADDRESS names no other machine; Ray runs where the command does")
    place = urlsplit(address if "://" in address else f"//{address}")
    try:
        host, port = place.hostname, place.port or _DEFAULT_PORT
        with socket.create_connection((host, port), timeout=_TIMEOUT_S):
            pass
    except (OSError, ValueError) as error:
        raise Problem(
            f"nobody answers at RAY_ADDRESS={address} ({error})",
            "start the head node (`ray start --head`), correct RAY_ADDRESS, or unset it for this machine",
        ) from error
    return f"{host}:{port} accepts connections"
