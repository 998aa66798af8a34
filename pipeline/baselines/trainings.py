"""Which trainings a comparison with networks trained alone needs, and how each follows from the job's own.

All have the job's final recipe, data, epochs and workers; they differ in what learns and in their seeds.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from pipeline.evaluation.score import Objective
from pipeline.training.plan import TrainingPlan

Subject = Literal["full", "base", "adaptive"]
"""What learns: a network of one depth, or the adaptive network."""

SUBJECTS: tuple[Subject, ...] = ("full", "base", "adaptive")
DEFAULT_SEEDS = 3
"""Of a comparison; chosen: with fewer there is no telling a gain from noise."""


@dataclass(frozen=True)
class BaselineTraining:
    """One training of a comparison.

    Attributes:
        subject: What learns.
        seed: Every random source of the training follows from it.
    """

    subject: Subject
    seed: int

    @property
    def name(self) -> str:
        """Name of its run."""
        return f"{self.subject}-seed-{self.seed}"

    def __str__(self) -> str:
        return f"{self.subject}{'' if self.subject == 'adaptive' else ' alone'}, seed {self.seed}"

    def plan(self, final: TrainingPlan) -> TrainingPlan:
        """Return this training as a variant of the job's own."""
        plan = replace(comparable(final), seed=self.seed)
        if self.subject == "adaptive":
            return plan
        recipe = plan.recipe.model_copy(update={"best_by": "score"})
        return replace(plan, alone=self.subject, teacher=None, recipe=recipe)


def comparable(final: TrainingPlan) -> TrainingPlan:
    """Return the job's own training without what a network alone cannot have.

    That is a start from a trained adaptive network, and statistics that are taken anew before validation. A
    budget needs these depths in between; without it the checkpoint that is good at both extremes is the best.
    """
    objective = Objective() if final.objective.name == "budget" else final.objective
    return replace(final, winner=None, validates_all_profiles=False, objective=objective)


def is_comparable(final: TrainingPlan) -> bool:
    """Return whether the job's own training serves as the adaptive one of its seed."""
    return final.winner is None and not final.validates_all_profiles


def planned_trainings(final: TrainingPlan, *, num_seeds: int) -> list[BaselineTraining]:
    """Return the trainings beside the job's own, seed by seed; the first seed is the job's.

    Args:
        final: The job's own training.
        num_seeds: Of the comparison, at least 1.
    """
    own = BaselineTraining("adaptive", final.seed)
    wanted = [
        BaselineTraining(subject, final.seed + number) for number in range(num_seeds) for subject in SUBJECTS
    ]
    return [training for training in wanted if training != own or not is_comparable(final)]


def expected_s(
    trainings: Iterable[BaselineTraining], *, own_s: float, full_macs: int, base_macs: int
) -> float:
    """Return about how long trainings take, by their multiply-adds.

    Args:
        trainings: To come.
        own_s: Seconds that the job's own took; it runs both depths in every step.
        full_macs: Multiply-adds of the whole network.
        base_macs: Of the base-net.
    """
    both = full_macs + base_macs
    macs: dict[Subject, int] = {"full": full_macs, "base": base_macs, "adaptive": both}
    return sum(own_s * macs[training.subject] / both for training in trainings)
