"""All depths of a network in one program: the profile is an input of it, not a property of the code.

Every segment that follows letters becomes a tree of `torch.cond` between its forms, which stay branches when
the module is exported: one, or with path statistics one a letter. The forms are the network's own, so every
weight is stored once.

Shapes: B images, N letters, K classes.
"""

import functools
from collections import defaultdict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from .adaptive import AdaptiveDepthNetwork
from .families import State
from .meta import on_meta
from .profiles import SKIPPED, WHOLE, DepthProfile


class SwitchedNetwork(nn.Module):
    """A network whose depth profile is a tensor.

    It exists to be exported (see `export.export_all_profiles`); called as it is, `torch.cond` compiles the
    branches first, where the network itself just runs.

    Args:
        network: Kept, not copied.
    """

    def __init__(self, network: AdaptiveDepthNetwork) -> None:
        super().__init__()
        self.network = network
        self._layouts = _states_between_segments(network)

    def forward(self, images: Tensor, skips: Tensor) -> Tensor:
        """Run the depth that `skips` says.

        Args:
            images: Normalised images, shape (B, channels, height, width).
            skips: One truth value a letter, first letter first: whether it is T; shape (N,).

        Returns:
            Logits, shape (B, K), equal to those of the network with the same profile.

        Raises:
            ValueError: If `skips` has another shape.
        """
        num_letters = self.network.num_skippable_stages
        if skips.shape != (num_letters,):
            raise ValueError(
                f"skips holds one truth value a letter of the profile, got the shape {tuple(skips.shape)}, "
                f"{self.network.name} has {num_letters} letters; see profile_tensor"
            )
        state: State = images
        for segment in range(self.network.num_segments):
            state = self._switch(segment, state, skips)
        logits: Tensor = state
        return logits

    def _switch(self, segment: int, state: State, skips: Tensor) -> State:
        """Run the form of a segment that the truth values ask for, shape (N,)."""
        before, after = self._layouts[segment], self._layouts[segment + 1]

        def choose(paths: Sequence[str]) -> Callable[..., tuple[Tensor, ...]]:
            """Return what takes `skips` and the state's tensors, and runs one of the paths."""
            letter = self._deciding_letter(segment, paths)
            if letter is None:
                return functools.partial(run, paths[0])
            whole, skipped = (
                choose([path for path in paths if path[letter] == kind]) for kind in (WHOLE, SKIPPED)
            )
            return lambda skips, *tensors: torch.cond(skips[letter], skipped, whole, (skips, *tensors))

        def run(path: str, _: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
            state = self.network.run_segment(segment, _with_tensors(before, tensors), path)
            # torch.cond refuses outputs that are views, and forms that lay their output out differently.
            return tuple(tensor.clone(memory_format=torch.contiguous_format) for tensor in _tensors(state))

        return _with_tensors(after, choose(self.network.paths(segment))(skips, *_tensors(state)))

    def _deciding_letter(self, segment: int, paths: Sequence[str]) -> int | None:
        """Return the first letter that decides what runs a segment; None if all paths run the same."""
        for letter in range(len(paths[0])):
            forms: dict[str, set[int]] = defaultdict(set)
            for path in paths:
                forms[path[:letter] + path[letter + 1 :]].add(id(self.network.form(segment, path)))
            if any(len(alternatives) > 1 for alternatives in forms.values()):
                return letter
        return None


def profile_tensor(profile: DepthProfile) -> Tensor:
    """Return a profile as the input of a switched network: whether each letter is T, shape (N,)."""
    return torch.tensor([letter == SKIPPED for letter in profile.letters])


def _states_between_segments(network: AdaptiveDepthNetwork) -> list[State]:
    """Return the images, then what every segment hands on, with `Tensor` in place of the tensors.

    What else a state holds (a height and width, an absent bias) depends on the image size alone, and both
    forms of a segment hand on the same.
    """
    shapes = on_meta(network).eval()
    state: State = torch.empty(1, *network.input_shape, device="meta")
    layouts = [_without_tensors(state)]
    with torch.no_grad(), torch.device("meta"):
        for segment in range(network.num_segments):
            state = shapes.run_segment(segment, state, shapes.paths(segment)[0])
            layouts.append(_without_tensors(state))
    return layouts


def _tensors(state: State) -> tuple[Tensor, ...]:
    parts = state if isinstance(state, tuple) else (state,)
    return tuple(part for part in parts if isinstance(part, Tensor))


def _without_tensors(state: State) -> State:
    if isinstance(state, tuple):
        return tuple(Tensor if isinstance(part, Tensor) else part for part in state)
    return Tensor


def _with_tensors(layout: State, tensors: Sequence[Tensor]) -> State:
    remaining = iter(tensors)
    if isinstance(layout, tuple):
        return tuple(next(remaining) if part is Tensor else part for part in layout)
    return next(remaining)
