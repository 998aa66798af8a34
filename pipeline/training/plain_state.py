"""State of an optimiser or a scaler as JSON and tensors, so that it is stored without pickle.

JSON knows neither tensors, nor tuples, nor keys that are numbers; a mapping with one of the words below as
its only key stands for each of them.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

TENSOR, TUPLE, ITEMS = "$tensor", "$tuple", "$items"


def pack(state: Any, tensors: dict[str, Tensor], path: str = "") -> Any:  # noqa: ANN401
    """Return state as data that JSON can hold.

    Args:
        state: Mappings, lists and tuples of tensors, numbers, text and None.
        tensors: Gets the tensors, by their path in the state.
        path: Of this state in the whole.

    Raises:
        TypeError: If the state holds anything else; names it.
    """
    match state:
        case None | bool() | int() | float() | str():
            return state
        case Tensor():
            tensors[path] = state
            return {TENSOR: path}
        case Mapping():
            return {ITEMS: [[key, pack(value, tensors, _below(path, key))] for key, value in state.items()]}
        case tuple():
            return {TUPLE: _pack_all(state, tensors, path)}
        case list():
            return _pack_all(state, tensors, path)
    raise TypeError(
        f"state to store must be numbers, text, tensors and collections of them, got {type(state).__name__} "
        f"at {path!r}; choose another optimiser"
    )


def _pack_all(values: list[Any] | tuple[Any, ...], tensors: dict[str, Tensor], path: str) -> list[Any]:
    return [pack(value, tensors, _below(path, index)) for index, value in enumerate(values)]


def _below(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)


def unpack(data: Any, tensors: Mapping[str, Tensor]) -> Any:  # noqa: ANN401
    """Return the state that `pack` made plain; raises KeyError if a tensor is missing."""
    match data:
        case {"$tensor": path}:
            return tensors[path]
        case {"$tuple": values}:
            return tuple(unpack(value, tensors) for value in values)
        case {"$items": items}:
            return {key: unpack(value, tensors) for key, value in items}
        case list():
            return [unpack(value, tensors) for value in data]
    return data
