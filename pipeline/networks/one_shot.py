"""One set of weights for every split: a network whose split points are drawn while it trains.

Source of the idea: Guo et al. 2020, arXiv:1904.00420 (single path one-shot), for choices of blocks; here the
choice is where each stage is split.
"""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

from .adaptive import AdaptiveDepthNetwork, NetworkDescription
from .profiles import resolve_split
from .wiring import Form

Points = tuple[int, ...]
"""Mandatory blocks of every stage."""


class OneShotNetwork(AdaptiveDepthNetwork):
    """A network that runs at any split which leaves each of its stages skippable.

    It is built for the largest of them, so that every block which some split makes mandatory has both norms.
    `choose` says at which split it runs; cost and `subnetwork` are always those of the largest one, `view`
    has them for another.

    Args:
        description: Of the network; its split is not looked at, and statistics of paths are not kept.

    Raises:
        UnsupportedBackboneError: If none of its blocks can be left out.
        ValueError: If the image size does not fit.
    """

    def __init__(self, description: NetworkDescription) -> None:
        plain = replace(description, split="paper", path_statistics=False).build()
        largest = tuple(layout.size.skippable_points[-1] for layout in plain.layouts)
        super().__init__(plain.backbone, split=largest, description=replace(plain.description, split=largest))
        self._views: dict[Points, AdaptiveDepthNetwork] = {}
        self._chosen: Points = self.split

    def splits(self) -> list[Points]:
        """Return every split that leaves each stage skippable, the smallest first."""
        return list(itertools.product(*(layout.size.skippable_points for layout in self.layouts)))

    def choose(self, split: Sequence[int]) -> None:
        """Run at a split from now on; raises ValueError if it is none of `splits`."""
        self._chosen = self._require(split)

    def view(self, split: Sequence[int]) -> AdaptiveDepthNetwork:
        """Return the ordinary network of a split over the same modules; raises ValueError as `choose`."""
        points = self._require(split)
        if points not in self._views:
            view = AdaptiveDepthNetwork(
                self.backbone, split=points, description=replace(self.description, split=points)
            )
            # Those of blocks that this split leaves out when a stage is skipped are not used.
            view.skip_norms = self.skip_norms
            view.set_student_drop_path(self.students_drop_paths)
            self._views[points] = view.train(self.training)
        return self._views[points]

    def form(self, segment: int, path: str) -> Form:
        """Return the modules that run a segment at the chosen split."""
        if self._chosen == self.split:
            return super().form(segment, path)
        return self.view(self._chosen).form(segment, path)

    @property
    def _split_now(self) -> Points:
        return self._chosen

    def train(self, mode: bool = True) -> Self:
        """Set training mode at every split."""
        super().train(mode)
        for view in self._views.values():
            view.train(mode)
        return self

    def set_student_drop_path(self, enable: bool = True) -> None:
        """Say it for every split."""
        super().set_student_drop_path(enable)
        for view in self._views.values():
            view.set_student_drop_path(enable)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the views out of copies and pickles, as their wiring."""
        return {**super().__getstate__(), "_views": {}}

    def _require(self, split: Sequence[int]) -> Points:
        points = resolve_split(split, [layout.size for layout in self.layouts], network=self.name)
        if any(point > largest for point, largest in zip(points, self.split, strict=True)):
            raise ValueError(
                f"a one-shot network keeps each stage skippable, got split {list(points)}; write at most "
                f"{list(self.split)}"
            )
        return points
