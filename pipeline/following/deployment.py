"""The HTTP side: a Ray Serve deployment that speaks the protocol of MLflow's scoring server.

`POST /invocations` takes the same JSON and gives the same answers; `GET /ping` and `/health` say that it is
ready; `GET /report` gives the mix of depths.
"""

import asyncio
import io
import json
import time
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import torch
from fastapi import FastAPI, Request, Response
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import scoring_server
from ray import serve

from .costs import Costs
from .follower import Follower

JSON = "application/json"

MAX_ONGOING = 100_000
"""Requests that Serve hands over at once. Chosen: all, as the policy has to see the whole queue."""

app = FastAPI(openapi_url=None)


def _refusal(error: MlflowException) -> Response:
    # Above the class: Ray Serve copies the functions of the module as they are when it is decorated.
    return Response(error.serialize_as_json(), error.get_http_status_code(), media_type=JSON)


@serve.deployment(num_replicas=1, max_ongoing_requests=MAX_ONGOING)
@serve.ingress(app)
class LoadFollowingModel:
    """One model with a queue before it.

    Args:
        folder: Of the MLflow model, on this machine.
        costs: Of batches.
        target_ms: Time from arrival to answer that 95 of 100 requests are to keep.
        num_threads: For one inference.
    """

    def __init__(self, folder: Path, costs: Costs, target_ms: float, num_threads: int) -> None:
        torch.set_num_threads(num_threads)
        self._model = mlflow.pyfunc.load_model(str(folder)).unwrap_python_model()
        self._follower = Follower(self._model.run, self._model.table, costs, target_ms)

    @app.post("/invocations")
    async def invocations(self, request: Request) -> Response:
        """Classify the images of one request."""
        arrived_s = time.monotonic()
        try:
            with self._follower.reading(arrived_s):
                # Decoding an image takes milliseconds, in which others are to be answered.
                call = await asyncio.to_thread(self._read, await request.body(), request.headers)
        except MlflowException as error:
            self._follower.record.refused += 1
            return _refusal(error)
        try:
            logits_BK, profile = await self._follower.answer(call, arrived_s)
        except Exception:
            self._follower.record.errors += 1
            raise
        answer = io.StringIO()
        scoring_server.predictions_to_json(call.answer(logits_BK, profile), answer)
        return Response(answer.getvalue(), media_type=JSON)

    @app.get("/ping")
    @app.get("/health")
    async def ping(self) -> Response:
        """Say that requests can be answered."""
        return Response("\n", media_type=JSON)

    @app.get("/report")
    async def report(self) -> dict[str, Any]:
        """Return what was answered so far."""
        return self._follower.report().to_dict()

    def _read(self, body: bytes, headers: Any) -> Any:  # noqa: ANN401
        """Return a checked call; raises MlflowException if it is wrong."""
        content_type = headers.get("content-type", JSON).partition(";")[0].strip()
        if content_type != JSON:
            raise MlflowException.invalid_parameter_value(
                f"a request is {JSON}, got {content_type}; send JSON with the key inputs"
            )
        try:
            given = json.loads(body)
        except ValueError as error:
            raise MlflowException.invalid_parameter_value(
                f"a request is JSON, got {len(body)} bytes that are not ({error}); send an object with inputs"
            ) from error
        if not isinstance(given, dict):
            raise MlflowException.invalid_parameter_value(
                f"a request is a JSON object, got {type(given).__name__}; send one with the key inputs"
            )
        params = given.pop("params", None) or {}
        if not isinstance(params, dict):
            raise MlflowException.invalid_parameter_value(
                f'params is a JSON object, got {params!r}; send for example {{"profile": "base"}}'
            )
        return self._model.read(scoring_server.infer_and_parse_data(given), params)
