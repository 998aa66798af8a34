"""MLflow's own scoring server for a registered version."""

import os
import sys
from pathlib import Path


def serve_version(tracking_uri: str, model_uri: str, *, host: str, port: int) -> None:
    """Become `mlflow models serve`, in this environment; does not return.

    The store is named in the environment, where a password in it shows in no list of processes.

    Args:
        tracking_uri: The store.
        model_uri: `models:/NAME/VERSION` or `models:/NAME@ALIAS`.
        host: Address to listen on.
        port: Where to listen.
    """
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": tracking_uri,
        # MLflow starts `uvicorn` by its name.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", model_uri]
    command += ["--env-manager", "local", "--host", host, "--port", str(port)]
    os.execve(sys.executable, command, environment)
