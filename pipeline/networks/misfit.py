"""How pretrained weights differ from what a network needs: names and shapes, no values."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

NUM_SHOWN = 3
"""How many keys of each kind a message names; chosen: enough to recognise another architecture."""

Shape = tuple[int, ...]


class PretrainedError(ValueError):
    """Pretrained weights that cannot be had, or do not fit the network that asks for them."""


@dataclass(frozen=True)
class Misfit:
    """What is wrong with weights, in the order of the network or of the weights; false if nothing is.

    Attributes:
        missing: Shapes that the network needs and the weights lack, by name.
        unexpected: Shapes that the network has no place for, by name.
        misshaped: What the weights have and what the network needs, by name.
    """

    missing: Mapping[str, Shape]
    unexpected: Mapping[str, Shape]
    misshaped: Mapping[str, tuple[Shape, Shape]]

    @classmethod
    def between(cls, needed: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> "Misfit":
        """Compare what a network needs with what it is given; BatchNorm's batch counters do not count."""
        needs = {name: tuple(value.shape) for name, value in needed.items() if not is_counter(name)}
        has = {name: tuple(value.shape) for name, value in given.items() if not is_counter(name)}
        return cls(
            missing={name: shape for name, shape in needs.items() if name not in has},
            unexpected={name: shape for name, shape in has.items() if name not in needs},
            misshaped={
                name: (has[name], shape) for name, shape in needs.items() if has.get(name, shape) != shape
            },
        )

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.misshaped)

    def explain(self, origin: str, network: str) -> str:
        """Return the message for a user.

        Args:
            origin: Where the weights come from.
            network: Which network they were for.
        """
        reshaped = [f"{name} {has}, not {needs}" for name, (has, needs) in self.misshaped.items()]
        kinds = {
            "missing": [f"{name} {shape}" for name, shape in self.missing.items()],
            "unexpected": [f"{name} {shape}" for name, shape in self.unexpected.items()],
            "of another shape": reshaped,
        }
        parts = [f"{len(keys)} {kind} ({', '.join(_first(keys))})" for kind, keys in kinds.items() if keys]
        return (
            f"pretrained weights must fit their network, and {origin} does not fit {network}: "
            f"{'; '.join(parts)}; nothing was loaded; give a checkpoint of this backbone with the same "
            "kwargs, or start without one"
        )


def is_counter(name: str) -> bool:
    """Return whether a weight only counts batches, which old checkpoints do not have."""
    return name.endswith("num_batches_tracked")


def _first(keys: list[str]) -> Iterator[str]:
    yield from keys[:NUM_SHOWN]
    if len(keys) > NUM_SHOWN:
        yield "..."
