"""From a YAML file to a `SearchSpace`; entries are read one by one, so all mistakes are found at once."""

import difflib
import itertools
import re
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from pipeline.errors import RequestError

from .conditional import Conditional
from .keys import key_problems
from .space import AnyRange, SearchSpace

KINDS = "float, int, choice, conditional, split_points, split_ratios or split_ratio"
_ENTRY: TypeAdapter[Any] = TypeAdapter(AnyRange)
_EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")


def shipped_spaces() -> dict[str, Path]:
    """Return the spaces that travel with the package, by name."""
    folder = Path(str(resources.files("search_spaces")))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_space(name_or_path: str) -> SearchSpace:
    """Read a search space.

    Mistakes in its entries do not raise: they wait in the space for `SearchSpace.check`, which
    reports them together with what does not fit the job.

    Args:
        name_or_path: A YAML file, or the name of a shipped space.

    Raises:
        RequestError: If there is no such space, or it is not a YAML mapping.
    """
    entries = _read_entries(_find(name_or_path))
    flaws = {key: entry_problems(key, entry) for key, entry in entries.items()}
    ranges = {key: _ENTRY.validate_python(entry) for key, entry in entries.items() if not flaws[key]}
    return SearchSpace(
        name=name_or_path,
        ranges=ranges,
        flaws=(*(problem for problems in flaws.values() for problem in problems), *_clashes(ranges)),
    )


def entry_problems(key: str, entry: Any) -> list[str]:  # noqa: ANN401
    """Return everything that is wrong with one entry of a space, whatever the job."""
    kind = entry.get("kind") if isinstance(entry, Mapping) else None
    problems = key_problems(key, kind)
    inner = [
        f"{key}={value}: {problem}"
        for value, name, part in _parts(entry)
        for problem in entry_problems(name, part)
    ]
    if inner:
        return problems + inner
    try:
        range_ = _ENTRY.validate_python(entry)
    except ValidationError as error:
        return problems + [f"{key}: {_explain(problem)}" for problem in error.errors()]
    laws: list[str] = range_.problems(key)
    return problems + laws


def _parts(entry: Any) -> Iterator[tuple[Any, str, Any]]:  # noqa: ANN401
    """Yield the value, key and entry of every range in a conditional one."""
    choices = (
        entry.get("choices") if isinstance(entry, Mapping) and entry.get("kind") == "conditional" else None
    )
    for value, ranges in choices.items() if isinstance(choices, Mapping) else ():
        for name, part in ranges.items() if isinstance(ranges, Mapping) else ():
            yield value, str(name), part


def _clashes(ranges: Mapping[str, Any]) -> Iterator[str]:
    """Yield a message for every key that has a range in two places."""
    inner = {
        key: {name for names in range_.choices.values() for name in names}
        for key, range_ in ranges.items()
        if isinstance(range_, Conditional)
    }
    for (key, names), (other, others) in itertools.combinations(
        [*inner.items(), ("the space", set(ranges))], 2
    ):
        for name in sorted(names & others):
            yield f"{name}: a key has one range, this one stands in {key} and in {other}; leave one out"


def _find(name_or_path: str) -> Path:
    path, shipped = Path(name_or_path), shipped_spaces()
    if path.is_file():
        return path
    if name_or_path in shipped:
        return shipped[name_or_path]
    near = difflib.get_close_matches(name_or_path, shipped, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"shipped spaces: {', '.join(shipped)}"
    raise RequestError(
        f"search.space must be a YAML file or the name of a shipped space, got {name_or_path!r}, "
        f"which is neither; {hint}"
    )


def _read_entries(path: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RequestError(f"a search space must be YAML, {path} is not: {error}") from error
    if not isinstance(data, dict) or not data:
        raise RequestError(
            f"a search space must be a mapping of job-file keys to ranges, {path} holds {data!r}; "
            "write such as training.lr: {kind: float, low: 0.02, high: 0.4, log: true}"
        )
    return {str(key): entry for key, entry in data.items()}


def _explain(problem: ErrorDetails) -> str:
    # The first step of the location is the kind, which the discriminated union adds.
    field, value = ".".join(str(step) for step in problem["loc"][1:2]), problem["input"]
    match problem["type"]:
        case "union_tag_not_found" | "model_attributes_type" | "dict_type":
            return f"a range is a mapping with a kind, got {value!r}; write kind: {KINDS}"
        case "union_tag_invalid":
            return f"kind must be {KINDS}, got {value['kind']!r}; write one of them"
        case "missing":
            return f"{field!r} is required and missing, got {value!r}; write {field}: with a value"
        case "extra_forbidden":
            return f"{field!r} does not belong to kind {problem['loc'][0]}, got {value!r}; leave it out"
        case _ if isinstance(value, str) and _EXPONENT.fullmatch(value):
            return (
                f"{field}: must be a number, got the text {value!r}, because YAML wants a point and a sign "
                f"in powers of ten; write {_with_point(value)}"
            )
        case _:
            law = problem["msg"].removeprefix("Input ")
            return f"{field}: {law[0].lower()}{law[1:]}, got {value!r}; write a value of that type"


def _with_point(text: str) -> str:
    mantissa, _, exponent = text.lower().partition("e")
    sign = "" if exponent[0] in "+-" else "+"
    return f"{mantissa if '.' in mantissa else f'{mantissa}.0'}e{sign}{exponent}"
