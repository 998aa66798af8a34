"""Numerical health of the running training: it stops at a loss that is not finite, and tells about spikes.

The step never waits for it. Loss and gradient of every step are copied to the host in the background and
read `LAG_STEPS` later, on a CPU at once and before the weights change. The gradient that is read is the
classifier's, reduced over all workers: a loss that is undefined on one of them makes it so on all, hence all
see it at the same step without a word between them, and stop together.
"""

import math
from collections import deque
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, distributed
from torch.optim import Optimizer

from pipeline.networks.single_depth import Network
from pipeline.precision import autocast

from .divergence import Divergence, DivergenceError
from .held_weights import HeldWeights
from .origin import trace
from .progress import tell
from .reading import Position, Reading
from .spikes import SpikeDetector

LAG_STEPS = 2
"""Steps after which a GPU's numbers are read; chosen: the host stays one whole step ahead of the device."""
MAX_SPIKES = 10
"""Spikes told by one worker process; chosen: more of them are noise, which is no news."""


class HealthWatch:
    """Looks at every step of one worker: `start_step`, then `check` between gradient and update.

    Args:
        network: The network that learns.
        optimizer: Whose learning rate is told.
        device: Where it computes.
        rank: This worker, from 0; 0 tells about spikes, those of its own share of the batch.
        world_size: Number of workers.
        board: Handle of a `ProgressBoard`, or None.
        precision: Of the training, as in the job file.
        undoes_overflow: Whether a gradient scaler skips steps whose gradient alone is not finite.
        lag_steps: Steps after which numbers are read; None for 0 on a CPU, else `LAG_STEPS`.
    """

    def __init__(
        self,
        network: Network,
        optimizer: Optimizer,
        *,
        device: torch.device,
        rank: int,
        world_size: int,
        board: Any,  # noqa: ANN401
        precision: str,
        undoes_overflow: bool = False,
        lag_steps: int | None = None,
    ) -> None:
        self._network, self._optimizer, self._device = network, optimizer, device
        self._rank, self._world_size, self._board = rank, world_size, board
        self._precision, self._undoes_overflow = precision, undoes_overflow
        default = 0 if device.type == "cpu" else LAG_STEPS
        self._lag_steps = default if lag_steps is None else lag_steps
        self._held = HeldWeights(network) if self._lag_steps else None
        *_, self._classifier = network.backbone.parameters()
        self._current: tuple[Position, Sequence[Tensor]] | None = None
        self._pending: deque[Reading] = deque()
        self._latest: Reading | None = None
        self._seen_alone: Reading | None = None
        self._spikes, self._num_spikes = SpikeDetector(), 0

    def start_step(self, position: Position, images: Sequence[Tensor]) -> None:
        """Say which step comes and what the network sees in it.

        Args:
            position: Of the step.
            images: The parts of its batch, on the network's device; kept by reference.
        """
        self._current = (position, images)

    def check(self, loss: Tensor) -> None:
        """Look at a step once its gradient is reduced and before the weights change.

        Args:
            loss: Of this worker, shape ().

        Raises:
            DivergenceError: If this step, or on a GPU the one `LAG_STEPS` before, was not finite.
        """
        if self._current is None:
            raise RuntimeError("check() belongs between start_step() and the update; call start_step() first")
        values = torch.stack([loss.detach().float(), self._largest_gradient()])
        if self._held is not None:
            self._held.hold(values[: 1 if self._undoes_overflow else 2].isfinite().all())
        self._pending.append(self._send(*self._current, values))
        while len(self._pending) > self._lag_steps:
            self._judge(self._pending.popleft())

    def settle(self) -> None:
        """Look at the steps that are still under way, and at what only one worker saw.

        Raises:
            DivergenceError: As `check`; here also for a loss that is infinite though its gradient is finite.
        """
        while self._pending:
            self._judge(self._pending.popleft())
        reading = self._seen_alone or self._latest
        if reading and any(saw for (saw,) in self._gather([self._seen_alone is not None])):
            self._conclude(reading)

    def _largest_gradient(self) -> Tensor:
        gradient = self._classifier.grad
        if gradient is None:  # frozen
            return torch.zeros((), device=self._device)
        return gradient.detach().abs().amax().float()

    def _send(self, position: Position, images: Sequence[Tensor], values: Tensor) -> Reading:
        """Start the copy of a step's values to the host."""
        lr = max(float(group["lr"]) for group in self._optimizer.param_groups)
        arrived = values.to("cpu", non_blocking=True)
        arrival = None
        if self._device.type == "cuda":
            arrival = torch.cuda.Event()  # type: ignore[no-untyped-call]
            arrival.record()
        return Reading(position, lr, images, arrived, arrival)

    def _judge(self, reading: Reading) -> None:
        """Decide what a step's numbers mean."""
        self._latest = reading
        loss, gradient = reading.read()
        if math.isfinite(loss) and math.isfinite(gradient):
            self._tell_spike(reading, loss)
        elif self._world_size == 1 or not math.isfinite(gradient):
            self._conclude(reading)
        else:  # the other workers know nothing of it, and would wait for this one for ever
            self._seen_alone = self._seen_alone or reading

    def _tell_spike(self, reading: Reading, loss: float) -> None:
        usual = self._spikes.usual(loss)
        if usual is None or self._rank != 0 or self._num_spikes == MAX_SPIKES:
            return
        self._num_spikes += 1
        end = "; further spikes are not told" if self._num_spikes == MAX_SPIKES else ""
        tell(
            self._board,
            f"loss spike in {reading.position}: {loss:.4g}, usually {usual:.4g}, "
            f"at learning rate {reading.lr:g}{end}",
        )

    def _conclude(self, reading: Reading) -> None:
        """Raise DivergenceError on every rank alike, unless a scaler undoes what happened."""
        loss, gradient = reading.read()
        losses = self._gather([loss])
        if self._undoes_overflow and all(math.isfinite(one) for (one,) in losses):
            return
        if self._held is not None:
            self._held.restore()
        with autocast(self._device, self._precision):
            traces = [trace(self._network, images) for images in reading.images]
        outputs = next((one for one in traces if one.first is not None), traces[-1])
        first = -1.0 if outputs.first is None else float(outputs.first)
        rows = self._gather([loss, gradient, reading.position.step, reading.lr, first])
        loss, gradient, step, lr, first = next((row for row in rows if not math.isfinite(row[0])), rows[0])
        raise DivergenceError(
            Divergence(
                what="gradient" if math.isfinite(loss) else "loss",
                value=gradient if math.isfinite(loss) else loss,
                epoch=reading.position.epoch,
                step=int(step),
                num_steps=reading.position.num_steps,
                lr=lr,
                origin=outputs.describe(None if first < 0 else int(first)),
            )
        )

    def _gather(self, row: Sequence[float]) -> list[list[float]]:
        """Return the rows of all workers, first rank first; to be called on all of them."""
        mine = torch.tensor(row, dtype=torch.float64, device=self._device)
        if self._world_size == 1:
            return [mine.tolist()]
        rows = [torch.empty_like(mine) for _ in range(self._world_size)]
        distributed.all_gather(rows, mine)
        return [one.tolist() for one in rows]
