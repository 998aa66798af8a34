"""What a sweep found: every trial and the best one, as plain values that JSON can hold."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.errors import JobError
from pipeline.evaluation.table import as_html, as_text

from .record import Outcome, TrialRecord
from .score import FAILED_SCORE, best_epoch, curve_of, score_so_far
from .settings import describe_values


@dataclass(frozen=True)
class TrialResult:
    """How one trial ended.

    Attributes:
        trial_id: Ray's.
        number: From 0; 0 is the job's own design.
        seed: Of the trial's training.
        values: What was searched, by dotted key of the job file; `Job.override` takes them.
        score: Of the best epoch, in [0, 1]; 0 for a failed trial.
        epochs: How many it trained.
        outcome: Whether it ran all epochs, was stopped early, or failed.
        cause: Why it failed.
        metrics: Of the best epoch; none if there is no sound epoch.
        train_s: Seconds of all its epochs, in which its workers were busy.
        scores: The best so far after every epoch.
        deleted_bytes: Of its checkpoints, deleted at its end.
    """

    trial_id: str
    number: int
    seed: int
    values: Mapping[str, Any]
    score: float
    epochs: int
    outcome: Outcome
    cause: str | None
    metrics: Mapping[str, float]
    train_s: float
    scores: tuple[float, ...] = ()
    deleted_bytes: int = 0

    @classmethod
    def from_record(cls, record: TrialRecord) -> "TrialResult":
        """Return the result of a trial that ended."""
        best, outcome = best_epoch(record.history), record.outcome or "failed"
        return cls(
            trial_id=record.trial_id,
            number=record.number,
            seed=record.seed,
            values=record.values,
            score=FAILED_SCORE if outcome == "failed" else score_so_far(record.history),
            epochs=len(record.history),
            outcome=outcome,
            cause=record.cause,
            metrics=best.metrics if best else {},
            train_s=sum(report.metrics["epoch_s"] for report in record.history),
            scores=tuple(score for (score,) in curve_of(record, epochs=len(record.history))),
            deleted_bytes=record.deleted_bytes,
        )


@dataclass(frozen=True)
class SearchResult:
    """How a sweep ended.

    Attributes:
        trials: All trials, by number.
        best: The one with the highest score among those that did not fail.
        importance: Share of each parameter in how scores differ, the largest first; none of few trials.
        num_dropped: Designs that could not meet the budget and were not trained.
        repeats: The first trial's design and the best one's in turns, trained again with new seeds.
        front: Numbers of the trials that no other one beats in all that is traded off; empty where the score
            alone counted.
    """

    trials: tuple[TrialResult, ...]
    best: TrialResult
    importance: Mapping[str, float]
    num_dropped: int
    repeats: tuple[TrialResult, ...] = ()
    front: tuple[int, ...] = ()

    @classmethod
    def of(
        cls,
        trials: Sequence[TrialResult],
        *,
        importance: Mapping[str, float],
        num_dropped: int,
        repeats: Sequence[TrialResult] = (),
        front: Sequence[int] = (),
    ) -> "SearchResult":
        """Return the result of a sweep with these trials; among equals the first is the best.

        Where values are traded off, the best is the trial of their front with the highest score.

        Raises:
            JobError: If every trial failed; with the causes.
        """
        ordered = tuple(sorted(trials, key=lambda trial: trial.number))
        sound = [trial for trial in ordered if trial.outcome != "failed"]
        if not sound:
            causes = "\n".join(f"  trial {trial.number}: {trial.cause}" for trial in ordered)
            raise JobError(
                f"a search needs a trial that does not fail, all {len(ordered)} did:\n{causes}\n"
                "remove the cause and run the same command again; it starts the search anew"
            )
        return cls(
            trials=ordered,
            best=max(
                (trial for trial in sound if not front or trial.number in front),
                key=lambda trial: trial.score,
            ),
            importance=importance,
            num_dropped=num_dropped,
            repeats=tuple(repeats),
            front=tuple(front),
        )

    def columns(self) -> Sequence[str]:
        """Return the headings of `rows`."""
        return ("trial", "", "score", "epochs", "settings")

    def rows(self) -> list[list[str]]:
        """Return the trials as text cells."""
        return [
            [
                str(trial.number + 1),
                "best" if trial == self.best else trial.outcome,
                f"{trial.score:.4f}",
                str(trial.epochs),
                describe_values(trial.values),
            ]
            for trial in self.trials
        ]

    def __str__(self) -> str:
        return as_text(self.columns(), self.rows())

    def _repr_html_(self) -> str:
        """Return the trials as a notebook shows them."""
        return as_html(self.columns(), self.rows())

    def to_json(self) -> str:
        """Return the result as text."""
        return json.dumps(
            {
                "trials": [asdict(trial) for trial in self.trials],
                "importance": dict(self.importance),
                "num_dropped": self.num_dropped,
                "repeats": [asdict(trial) for trial in self.repeats],
                "front": list(self.front),
            },
            indent=2,
        )

    @classmethod
    def from_json(cls, text: str) -> "SearchResult":
        """Return the result that `to_json` wrote."""
        data = json.loads(text)
        trials, repeats = (
            [TrialResult(**trial | {"scores": tuple(trial.get("scores", ()))}) for trial in data.pop(name)]
            for name in ("trials", "repeats")
        )
        return cls.of(trials, repeats=repeats, **data)
