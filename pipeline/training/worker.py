"""What one training worker does: the epoch loop, as a list of named steps.

Runs inside a Ray Train worker process, one a device. Every rank reports the same numbers; only rank 0 writes.
"""

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from timm.utils import distribute_bn
from torch import Tensor, distributed, nn

from pipeline.data.loading import set_epoch
from pipeline.evaluation.accuracy import Accuracy, accuracies, count_profiles
from pipeline.evaluation.calibration import calibrate, take_images
from pipeline.evaluation.score import Objective
from pipeline.networks import AdaptiveDepthNetwork, DepthProfile
from pipeline.networks.adaptive import memory_format
from pipeline.networks.single_depth import Network, SingleDepthNetwork

from .determinism import seed_epoch
from .divergence import Divergence, DivergenceError
from .epochs import ALONE, SCORE, USES_EMA, Reached
from .reading import Position
from .resuming import restore
from .session import Session, open_session
from .update import Part
from .uploading import report

PROGRESS_INTERVAL_S = 1.0


def train_loop(config: dict[str, Any]) -> Divergence | None:
    """Train a plan to its last epoch, from the latest checkpoint where there is one.

    Args:
        config: `plan` (TrainingPlan), `board` (handle of a ProgressBoard, or None) and `run` (StoragePath of
            its folder).

    Returns:
        None at the end, or why there is none; equal on every rank.
    """
    session = open_session(config["plan"], config["board"], config["run"])
    reached = restore(session)
    while len(reached.history) < session.plan.recipe.epochs:
        start_s = time.perf_counter()
        try:
            trained = train_epoch(session, reached)
        except DivergenceError as error:
            return error.divergence
        average_statistics(session)
        metrics = {**trained, **validate(session, epoch=len(reached.history) + 1)}
        metrics["epoch_s"] = time.perf_counter() - start_s
        reached = reached.with_epoch(metrics)
        write_checkpoint(session, reached)
    return None


def train_epoch(session: Session, reached: Reached) -> dict[str, float]:
    """Train what is left of an epoch; returns metrics that are equal on every rank.

    `train/data_wait` is the share of the time in which workers waited for images, and decoded them where they
    do so themselves; a device that is behind its host computes meanwhile.
    """
    start_s = time.perf_counter()
    epoch, seed = len(reached.history) + 1, session.plan.seed
    num_parts = session.plan.recipe.accumulation_steps
    seed_epoch(seed, epoch=epoch, rank=session.rank, update=reached.updates)
    set_epoch(session.train_batches, epoch, first_step=reached.updates * num_parts)
    session.network.train()
    num_updates = len(session.train_batches) // num_parts
    total = torch.full((), reached.loss_sum, dtype=torch.float64, device=session.device)
    ticker = Ticker(session)
    batches = TimedIterator(session.train_batches)
    for step in range(reached.updates, num_updates):
        update = (epoch - 1) * num_updates + step
        session.scheduler.step_update(update)
        parts = [
            place(session, next(batches), draw=update * num_parts + number) for number in range(num_parts)
        ]
        images = [images for images, _ in parts]
        session.health.start_step(Position(epoch, step + 1, num_updates), images)
        loss = session.updater.backward(parts, session.students.draw(update))
        session.health.check(loss)
        session.updater.apply(update)
        total += loss
        ticker.advance(epoch, step + 1, num_updates)
        if session.early.are_due() and step + 1 < num_updates:
            session.health.settle()
            loss_sum = add_over_workers(session, total.clone()).item() / session.world_size
            average_statistics(session)
            write_checkpoint(session, Reached(reached.history, step + 1, loss_sum))
            seed_epoch(seed, epoch=epoch, rank=session.rank, update=step + 1)
    session.health.settle()
    waited = batches.waited_s / (time.perf_counter() - start_s)
    sums = torch.stack([total / num_updates, torch.full_like(total, waited)])
    loss, waited = (add_over_workers(session, sums) / session.world_size).tolist()
    return {"train/loss": loss, "train/data_wait": waited}


def write_checkpoint(session: Session, reached: Reached) -> None:
    """Report how far the training is, with a checkpoint; to be called on all workers."""
    report(session, reached)
    session.early.written()


def place(session: Session, batch: Part, *, draw: int) -> Part:
    """Return a batch on the worker's device, mixed where the recipe says so; `draw` numbers it in the run."""
    images, labels_B = batch
    images = images.to(session.device, memory_format=memory_format(session.network), non_blocking=True)
    labels_B = labels_B.to(session.device, non_blocking=True)
    if session.mixer is None:
        return images, labels_B
    return session.mixer(images, labels_B, draw=draw)


def validate(session: Session, *, epoch: int) -> dict[str, float]:
    """Evaluate the run's profiles on all validation images; returns metrics that are equal on every rank.

    With a moving average of the weights, both are evaluated: the better one's metrics are the epoch's, and
    those of both are told beside them.

    Args:
        session: Its networks have the same statistics on every rank.
        epoch: The one that ended, from 1.
    """
    raw = validate_weights(session, session.network, epoch=epoch)
    ema = session.updater.ema
    if ema is None:
        return raw
    averaged = validate_weights(session, ema.module, epoch=epoch)
    is_better = averaged[SCORE] >= raw[SCORE]
    both = {
        f"{name}/{key}": value
        for name, part in (("raw", raw), ("ema", averaged))
        for key, value in part.items()
    }
    return {**(averaged if is_better else raw), **both, USES_EMA: float(is_better)}


def validate_weights(session: Session, network: Network, *, epoch: int) -> dict[str, float]:
    """Evaluate the run's profiles with the weights of a network.

    Where all profiles are validated, so that runs are compared, it is with the statistics that they will be
    evaluated with in the end.
    """
    network.eval()
    plan = session.plan
    if isinstance(network, AdaptiveDepthNetwork) and plan.validates_all_profiles and plan.calibration_images:
        # A training that resumed within the epoch was given the rest of it.
        set_epoch(session.train_batches, epoch)
        num_images = math.ceil(plan.calibration_images / session.world_size)
        images = take_images(session.train_batches, num_images)
        network = calibrate(network, images, device=session.device)
        average_over_workers(session, network)
    totals = count_profiles(
        network,
        session.validation_batches,
        session.profiles,
        device=session.device,
        precision=plan.recipe.precision,
    )
    num_classes = plan.network.num_classes
    results = accuracies(add_over_workers(session, totals), session.profiles, num_classes=num_classes)
    if isinstance(network, SingleDepthNetwork):
        return metrics_alone(results[network.profile])
    return metrics_of_extremes(network, results, plan.objective)


def metrics_of_extremes(
    network: AdaptiveDepthNetwork, results: Mapping[DepthProfile, Accuracy], objective: Objective
) -> dict[str, float]:
    """Return an epoch's validation metrics of an adaptive network."""
    full, base = (results[profile] for profile in network.extremes)
    return {
        "full/top1": full.top1,
        "full/loss": full.loss,
        "base/top1": base.top1,
        "base/loss": base.loss,
        "base/cost": objective.relative_cost(network, network.extremes[1]),
        SCORE: objective.score(network, results),
    }


def metrics_alone(result: Accuracy) -> dict[str, float]:
    """Return an epoch's validation metrics of a network of one depth, whose score is its top-1."""
    return {f"{ALONE}/top1": result.top1, f"{ALONE}/loss": result.loss, SCORE: result.top1}


def average_statistics(session: Session) -> None:
    """Give the networks of all workers the same running statistics; each worker saw its own images alone."""
    average_over_workers(session, session.network)
    if session.updater.ema is not None:
        average_over_workers(session, session.updater.ema.module)


def average_over_workers(session: Session, network: nn.Module) -> None:
    """Replace a network's running statistics by their mean over the workers."""
    if session.world_size > 1:
        distribute_bn(network, session.world_size, reduce=True)


def add_over_workers(session: Session, sums: Tensor) -> Tensor:
    """Return the sums of all workers, in place."""
    if session.world_size > 1:
        distributed.all_reduce(sums)
    return sums


class TimedIterator:
    """Yields what an iterable does and adds up how long that takes.

    Attributes:
        waited_s: Seconds until now.
    """

    def __init__(self, batches: Iterable[Part]) -> None:
        start_s = time.perf_counter()
        self._batches = iter(batches)
        self.waited_s = time.perf_counter() - start_s

    def __iter__(self) -> Iterator[Part]:
        return self

    def __next__(self) -> Part:
        start_s = time.perf_counter()
        batch = next(self._batches)
        self.waited_s += time.perf_counter() - start_s
        return batch


class Ticker:
    """Tells the driver about steps, at most once in `PROGRESS_INTERVAL_S`, from rank 0."""

    def __init__(self, session: Session) -> None:
        self._board = session.board if session.rank == 0 else None
        self._last_s = 0.0

    def advance(self, epoch: int, step: int, num_steps: int) -> None:
        """Send the position if the last one is old enough; never waits."""
        now_s = time.monotonic()
        if self._board is not None and (now_s - self._last_s >= PROGRESS_INTERVAL_S or step == num_steps):
            self._last_s = now_s
            self._board.advance.remote(epoch, step, num_steps)
