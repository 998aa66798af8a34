"""Which depths learn from the super-net in a step; the same on every worker, as it follows from the seed."""

import random
from collections.abc import Sequence

from pipeline.data.random_state import mix_seed
from pipeline.networks import DepthProfile
from pipeline.networks.one_shot import OneShotNetwork
from pipeline.recipe import DistillationConfig

_STREAM, _SPLIT_STREAM = 0x57D, 0x57E
"""Keep these draws apart from others that follow from the same seed."""


def trained_profiles(profiles: Sequence[DepthProfile], rule: DistillationConfig) -> tuple[DepthProfile, ...]:
    """Return the profiles that a rule trains: all of a network's, or the two extremes."""
    return (profiles[0], profiles[-1]) if rule.students == "base" else tuple(profiles)


class StudentSchedule:
    """Draws the students of every step.

    Args:
        profiles: All of the network, `full` first and `base` last.
        rule: Who learns.
        seed: Of the run.

    Source: that exact extremes beat sampled ones is arXiv:2312.16392, table 5; training the extremes and a
    random depth together is the sandwich rule of Yu and Huang 2019, arXiv:1903.05134.
    """

    def __init__(self, profiles: Sequence[DepthProfile], rule: DistillationConfig, *, seed: int) -> None:
        *_, self._base = profiles
        self._between = tuple(profiles[1:-1])
        self._rule = rule
        self._seed = seed

    def draw(self, update: int) -> tuple[DepthProfile, ...]:
        """Return the students of an update (from 0), each once."""
        if self._rule.students == "base" or not self._between:
            return (self._base,)
        dice = random.Random(mix_seed(self._seed, _STREAM, update))
        if self._rule.students == "sampled":
            return (dice.choice((*self._between, self._base)),)
        if dice.random() >= self._rule.sampled_share:
            return (self._base,)
        return (self._base, dice.choice(self._between))


class NoStudents:
    """Of a network of one depth."""

    def draw(self, update: int) -> tuple[DepthProfile, ...]:  # noqa: ARG002
        """Return nobody."""
        return ()


class SplitSchedule(StudentSchedule):
    """Draws a split of a one-shot network for every step; the students are depths of that split.

    Args:
        network: Whose split is chosen.
        rule: Who learns.
        seed: Of the run.
    """

    def __init__(self, network: OneShotNetwork, rule: DistillationConfig, *, seed: int) -> None:
        super().__init__(network.profiles, rule, seed=seed)
        self._network = network
        self._splits = network.splits()

    def draw(self, update: int) -> tuple[DepthProfile, ...]:
        """Choose the split of an update (from 0) and return its students."""
        dice = random.Random(mix_seed(self._seed, _SPLIT_STREAM, update))
        self._network.choose(dice.choice(self._splits))
        return super().draw(update)
