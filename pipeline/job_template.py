"""The commented job file that `skipline init` writes: every key with its meaning, from the models."""

from collections.abc import Iterator, Sequence
from typing import Any

import yaml
from pydantic import BaseModel

from pipeline.config import Job, parse_job, read_job

HEADER = """\
# A Skipline job. Run it:  skipline run {path}
# Keys that are commented out show their defaults. `--set key.path=value` overrides any of them.
# Relative paths start at the folder in which the command is typed.
# Editors complete keys and mark mistakes by `skipline schema`; its --help says how.
"""


def render_template(preset: str, *, path: str, settings: Sequence[str] = ()) -> str:
    """Return a job file with a preset's values, and every other key commented out with its default.

    Args:
        preset: Name of the preset or path of the job file to start from.
        path: Where the file will be, for its header.
        settings: Values to write in the place of the preset's, such as `training.epochs=3`.

    Raises:
        RequestError: If there is no such preset, or a setting does not fit.
    """
    values = read_job(preset, settings)
    parse_job(values)
    return HEADER.format(path=path) + "\n".join(_render(Job, values, "")) + "\n"


def _render(section: type[BaseModel], values: dict[str, Any], indent: str) -> Iterator[str]:
    for name, info in section.model_fields.items():
        inner = _section_of(info.annotation)
        if inner is not None:
            # A section without any key would be null, so its heading is commented out with its keys.
            heading = "" if values.get(name) else "# "
            yield f"\n{indent}{heading}{name}:  # {info.description}"
            yield from _render(inner, values.get(name) or {}, f"{indent}  ")
            continue
        default = None if info.is_required() else info.get_default(call_default_factory=True)
        is_set = name in values
        comment = "" if is_set else "# "
        yield f"{indent}{comment}{name}: {_inline(values[name] if is_set else default)}  # {info.description}"


def _section_of(annotation: Any) -> type[BaseModel] | None:  # noqa: ANN401
    kinds = (annotation, *getattr(annotation, "__args__", ()))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def _inline(value: Any) -> str:  # noqa: ANN401
    plain = list(value) if isinstance(value, tuple) else value
    return yaml.safe_dump(plain, default_flow_style=True, width=1000).removesuffix("\n...\n").strip()
