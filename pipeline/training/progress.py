"""What a running training tells the driver: an actor that workers and controller write to, the driver reads.

Workers never wait for it: calls are sent without asking for their result.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayActorError
from ray.train import UserCallback
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from .epochs import EpochReport, ends_epoch

log = logging.getLogger(__name__)

POLL_INTERVAL_S = 0.5


@dataclass(frozen=True)
class Progress:
    """Where a training is: steps of the running epoch, and what has been told since the last look.

    Attributes:
        epoch: The running one, from 1.
        step: Steps of it that are done.
        num_steps: Steps that it has.
        reports: Epochs that ended.
        notes: What a user has to know beside that, such as a refused checkpoint.
    """

    epoch: int
    step: int
    num_steps: int
    reports: tuple[EpochReport, ...]
    notes: tuple[str, ...] = ()


class ProgressBoard:
    """Holds the state of one training; lives as long as somebody holds its handle."""

    def __init__(self) -> None:
        self._position = (0, 0, 1)
        self._reports: list[EpochReport] = []
        self._notes: list[str] = []

    def advance(self, epoch: int, step: int, num_steps: int) -> None:
        """Say which step has been done."""
        self._position = (epoch, step, num_steps)

    def report(self, report: EpochReport) -> None:
        """Say what an epoch brought."""
        self._reports.append(report)

    def note(self, note: str) -> None:
        """Say something that is no progress."""
        self._notes.append(note)

    def take(self) -> Progress:
        """Return the state and forget reports and notes."""
        reports, self._reports = tuple(self._reports), []
        notes, self._notes = tuple(self._notes), []
        return Progress(*self._position, reports, notes)


def tell(board: Any, note: str) -> None:  # noqa: ANN401
    """Tell something once to the log and, where there is a board, to the driver; never waits."""
    log.warning(note)
    if board is not None:
        board.note.remote(note)


def open_board() -> Any:  # noqa: ANN401
    """Start a board as a Ray actor beside the driver, with which it ends; returns its handle."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0, max_restarts=-1, scheduling_strategy=here)(ProgressBoard).remote()


class EpochCallback(UserCallback):  # type: ignore[misc]
    """Tells a board about epochs once their checkpoint is registered: what was told is never trained again.

    Args:
        board: Handle of a `ProgressBoard`.
    """

    def __init__(self, board: Any) -> None:  # noqa: ANN401
        self._board = board

    def after_report(
        self,
        run_context: Any,  # noqa: ANN401, ARG002
        metrics: list[dict[str, Any]],
        checkpoint: Any,  # noqa: ANN401, ARG002
    ) -> None:
        """Called in the controller of the run, after Ray has registered the checkpoint."""
        if ends_epoch(metrics[0]):
            self._board.report.remote(EpochReport.from_metrics(metrics[0]))


@contextmanager
def watching(board: Any, on_progress: Callable[[Progress], None]) -> Iterator[None]:  # noqa: ANN401
    """Call `on_progress` with the news of a board, from a thread, until the block ends.

    A board whose process was killed starts again; what it had not handed on yet is not shown.
    """
    is_over = threading.Event()

    def look() -> None:
        with suppress(RayActorError):
            on_progress(ray.get(board.take.remote()))

    def watch() -> None:
        while not is_over.wait(POLL_INTERVAL_S):
            look()

    thread = threading.Thread(target=watch, name="training-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
        look()
