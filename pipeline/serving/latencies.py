"""How long every depth takes where the model runs, measured once and remembered."""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import torch

from ..evaluation.conditions import latency_conditions
from ..evaluation.table import LatencyConditions, ProfileTable
from ..networks import AdaptiveDepthNetwork
from ..networks.cost import Latency, measure_latency


class Latencies:
    """The profile table of a model with the latencies that hold here.

    Measurements are kept in a folder by weights, device, threads and batch, and found there by the next
    process; one that cannot be written is measured again.

    Args:
        network: On its device, in evaluation mode.
        table: As registered.
        model_key: Digest of the weights.
        cache: Folder of measurements; by default one in the user's cache folder.
    """

    def __init__(
        self, network: AdaptiveDepthNetwork, table: ProfileTable, *, model_key: str, cache: Path | None = None
    ) -> None:
        self._network = network
        self._registered = table
        self._model_key = model_key
        self._cache = cache or user_cache()
        self._device = next(network.parameters()).device
        # Every call of the model asks, and the device's name is read from a file.
        self._known_conditions: dict[tuple[int, int], LatencyConditions] = {}
        self._measured: dict[LatencyConditions, ProfileTable | None] = {}

    def table(self, batch_size: int) -> ProfileTable:
        """Return the table for calls of so many images.

        That is the one measured here for as many, else for one image, else the registered one; its
        `latency` says where, with how many threads and for how many images.
        """
        return self._known(batch_size) or self._known(1) or self._registered

    def calibrate(
        self,
        batch_size: int = 1,
        *,
        num_runs: int = 20,
        anew: bool = False,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> ProfileTable:
        """Measure every profile on this machine, unless that is done already, and use the result from now on.

        Args:
            batch_size: Images of one call.
            num_runs: Timed calls a profile.
            anew: Measure also where that has been done.
            on_progress: Told how many profiles of how many have been measured.

        Raises:
            ValueError: If there is no image, or fewer than two runs.
        """
        if batch_size < 1 or num_runs < 2:
            raise ValueError(
                f"calibrate needs one image and two runs at least, got {batch_size} and {num_runs}"
            )
        if not anew and (known := self._known(batch_size)):
            return known
        conditions = self._conditions(batch_size)
        images = torch.rand(batch_size, *self._network.input_shape, device=self._device)
        measured: dict[str, Latency] = {}
        for profile in self._network.profiles:
            subnetwork = self._network.subnetwork(profile).eval()
            measured[str(profile)] = measure_latency(subnetwork, images, num_runs=num_runs)
            if on_progress:
                on_progress(len(measured), len(self._network.profiles))
        table = self._registered.with_latencies(measured, conditions)
        self._measured[conditions] = table
        self._remember(conditions, table)
        return table

    def _known(self, batch_size: int) -> ProfileTable | None:
        conditions = self._conditions(batch_size)
        if conditions not in self._measured:
            self._measured[conditions] = self._remembered(conditions)
        return self._measured[conditions]

    def _conditions(self, batch_size: int) -> LatencyConditions:
        key = (torch.get_num_threads(), batch_size)
        if key not in self._known_conditions:
            self._known_conditions[key] = latency_conditions(self._device, batch_size)
        return self._known_conditions[key]

    def _remembered(self, conditions: LatencyConditions) -> ProfileTable | None:
        with suppress(OSError, ValueError, KeyError, TypeError):
            rows = json.loads(self._file(conditions).read_text(encoding="utf-8"))
            return self._registered.with_latencies(
                {profile: Latency(**row) for profile, row in rows.items()}, conditions
            )
        return None

    def _remember(self, conditions: LatencyConditions, table: ProfileTable) -> None:
        rows = {row.profile: asdict(Latency(row.latency_p50_ms, row.latency_p95_ms)) for row in table.results}
        with suppress(OSError):
            self._cache.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=self._cache, delete=False, encoding="utf-8") as file:
                json.dump(rows, file)
            Path(file.name).replace(self._file(conditions))

    def _file(self, conditions: LatencyConditions) -> Path:
        text = json.dumps([self._model_key, asdict(conditions)])
        return self._cache / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"


def user_cache() -> Path:
    """Return the folder where measurements are kept unless told otherwise."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "skipline" / "latencies"
