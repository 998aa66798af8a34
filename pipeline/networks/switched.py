"""All depths of a network in one program: the profile is an input of it, not a property of the code.

Every segment that follows a letter becomes one `torch.cond` between its two forms, which stays a branch when
the module is exported. Both forms are the network's own, so every weight is stored once.

Shapes: B images, N letters, K classes.
"""

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
        self._letters = [_letter_of(network, segment) for segment in range(network.num_segments)]
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
        for segment, letter in enumerate(self._letters):
            if letter is None:
                state = self.network.run_segment(segment, state, skip=False)
            else:
                state = self._switch(segment, state, skips[letter])
        logits: Tensor = state
        return logits

    def _switch(self, segment: int, state: State, skip: Tensor) -> State:
        """Run the form of a segment that a truth value of shape () asks for."""

        def form(*, skip: bool) -> Callable[..., tuple[Tensor, ...]]:
            def run(*tensors: Tensor) -> tuple[Tensor, ...]:
                state = _with_tensors(before, tensors)
                # torch.cond refuses outputs that are views, and forms that lay their output out differently.
                return tuple(
                    tensor.clone(memory_format=torch.contiguous_format)
                    for tensor in _tensors(self.network.run_segment(segment, state, skip=skip))
                )

            return run

        before, after = self._layouts[segment], self._layouts[segment + 1]
        tensors: tuple[Tensor, ...] = torch.cond(skip, form(skip=True), form(skip=False), _tensors(state))
        return _with_tensors(after, tensors)


def profile_tensor(profile: DepthProfile) -> Tensor:
    """Return a profile as the input of a switched network: whether each letter is T, shape (N,)."""
    return torch.tensor([letter == SKIPPED for letter in profile.letters])


def _letter_of(network: AdaptiveDepthNetwork, segment: int) -> int | None:
    """Return the number of the letter that a segment follows, or None."""
    num_letters = network.num_skippable_stages
    for letter in range(num_letters):
        profile = DepthProfile(WHOLE * letter + SKIPPED + WHOLE * (num_letters - letter - 1))
        if network.skips_segment(segment, profile):
            return letter
    return None


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
            state = shapes.run_segment(segment, state, skip=False)
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
