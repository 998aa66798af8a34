"""Writes the reference pages from the code: keys of the job file, verbs, the Python API.

A page says what the code says and nothing else, whatever the machine or the width of its terminal, so a test
can compare it with the code.

Run:      make docs
Writes:   docs/reference/
"""

import ast
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
import yaml

from pipeline.cli.app import app
from pipeline.config import Job
from pipeline.errors import JobError, RequestError

FOLDER = Path(__file__).parent / "reference"
HEADER = "<!-- Written by `make docs`; not by hand. -->\n\n"

PUBLIC: Mapping[str, Sequence[str] | None] = {
    "pipeline": ("run", "tune", "train", "evaluate"),
    "pipeline.verbs": ("JobResult",),
    "pipeline.reporter": ("Reporter",),
    "pipeline.networks": None,
    "pipeline.networks.export": ("export_profile", "export_all_profiles", "write_onnx"),
    "pipeline.evaluation.evaluate": ("evaluate_profiles",),
    "pipeline.evaluation.calibration": ("calibrate",),
    "pipeline.evaluation.table": ("ProfileTable", "ProfileResult", "LatencyConditions"),
}
"""Modules with the names that others may build on; None means those in `__all__`."""


def main() -> None:
    """Write all pages."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text)


def pages() -> dict[str, str]:
    """Return the text of every page by its file's name."""
    written = {"job_file.md": _job_file(), "verbs.md": _verbs(), "python.md": _python()}
    return {name: HEADER + "\n".join(lines).rstrip() + "\n" for name, lines in written.items()}


# The job file, from its JSON schema.


def _job_file() -> Iterator[str]:
    schema = Job.model_json_schema()
    yield "# Keys of the job file\n"
    yield (
        "Unknown keys, wrong types and settings that would have no effect are refused, all at once. `--set "
        "key.path=value` overrides any key. [`skipline init`](verbs.md#skipline-init) writes a file with all "
        "of them.\n"
    )
    yield from _section(schema, schema["$defs"], "")


def _section(section: Mapping[str, Any], models: Mapping[str, Any], prefix: str) -> Iterator[str]:
    """Return a table of a section's own keys, then the sections within it."""
    required, inner = section.get("required", ()), {}
    yield from _table_head("key", "takes", "default", "")
    for name, key in section["properties"].items():
        if (model := _model(key, models)) is not None:
            inner[name] = (key, model)
            continue
        default = "required" if name in required else f"`{_inline(key.get('default', {}))}`"
        yield _row(f"`{prefix}{name}`", _takes(key), default, key["description"])
    yield ""
    for name, (key, model) in inner.items():
        yield f"{'#' * (2 + prefix.count('.'))} {prefix}{name}\n"
        is_optional = name not in required and key.get("default", {}) is None
        yield f"{_sentence(key['description'])}{' Not there by default.' if is_optional else ''}\n"
        yield from _section(model, models, f"{prefix}{name}.")


def _model(key: Mapping[str, Any], models: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the section that a key holds, or None."""
    references = [kind["$ref"] for kind in (key, *key.get("anyOf", ())) if "$ref" in kind]
    return models[references[0].rpartition("/")[2]] if references else None


def _takes(kind: Mapping[str, Any]) -> str:
    """Return in words what a key takes."""
    if "anyOf" in kind:
        return " or ".join(_takes(one) for one in kind["anyOf"])
    if "enum" in kind or "const" in kind:
        return ", ".join(f"`{value}`" for value in kind.get("enum", [kind.get("const")]))
    match kind["type"]:
        case "array":
            return f"list of {_takes(kind['items'])}"
        case "object":
            further = kind.get("additionalProperties")
            return f"mapping to {_takes(further)}" if isinstance(further, dict) else "mapping"
        case name:
            bounds = [f"{sign} {kind[word]}" for word, sign in BOUNDS.items() if word in kind]
            return f"{name} {', '.join(bounds)}".strip()


BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def _inline(value: Any) -> str:  # noqa: ANN401
    return yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("\n...\n").strip()


# Verbs, from the command line's own application.


def _verbs() -> Iterator[str]:
    group: Any = typer.main.get_command(app)
    yield "# Verbs\n"
    yield (
        f"`skipline VERB --help` says the same. Exit codes: 0 done, {JobError.exit_code} the job failed and "
        f"what was finished is kept, {RequestError.exit_code} the request was wrong and nothing was started."
    )
    panels: dict[str, list[Any]] = {}
    for verb in group.commands.values():
        panels.setdefault(verb.rich_help_panel, []).append(verb)
    for panel, verbs in panels.items():
        yield f"\n## {panel}"
        for verb in verbs:
            yield from _verb(verb)


def _verb(verb: Any) -> Iterator[str]:  # noqa: ANN401
    arguments = [param for param in verb.params if param.param_type_name == "argument"]
    options = [param for param in verb.params if param.param_type_name == "option"]
    asked = [_placeholder(argument) for argument in arguments]
    asked += [_spelling(option).strip("`") for option in options if option.required]
    yield f"\n### skipline {verb.name}\n\n    {' '.join(['skipline', verb.name, *asked])}"
    yield f"\n{_plain(verb.help)}\n"
    yield from _table_head("argument or option", "default", "")
    for param in (*arguments, *options):
        yield _row(_spelling(param), _default(param), _plain(param.help or ""))


def _placeholder(argument: Any) -> str:  # noqa: ANN401
    name = argument.metavar or argument.name.upper()
    return name if argument.required or name.startswith("[") else f"[{name}]"


def _spelling(param: Any) -> str:  # noqa: ANN401
    if param.param_type_name == "argument":
        return f"`{_placeholder(param)}`"
    value = "" if param.is_flag else f" {param.metavar or param.name.rpartition('_')[2].upper()}"
    return ", ".join(f"`{name}{value}`" for name in (*param.opts, *param.secondary_opts))


def _default(param: Any) -> str:  # noqa: ANN401
    if param.required:
        return "required"
    value = getattr(param.default, "value", param.default)
    value = param.opts[0] if value is True else value
    defaults = [param.envvar, None if value is False else value]
    return ", else ".join(f"`{default}`" for default in defaults if default is not None)


def _plain(text: str) -> str:
    """Return a help text with Markdown's marks in the place of Rich's."""
    marked = re.sub(r"\[bold\](.*?)\[/\]", r"`\1`", inspect.cleandoc(text))
    return marked.replace(r"\[", "[")


# The Python API, from the sources of what is public.


def _python() -> Iterator[str]:
    yield "# Python API\n"
    yield (
        "What scripts of your own may build on; other modules change more freely. Shapes: B images, K or C "
        "classes. What a registered model offers is told in [prediction](../prediction.md).\n"
    )
    public = [
        (module_name, name, getattr(module, name))
        for module_name, names in PUBLIC.items()
        for module in [importlib.import_module(module_name)]
        for name in (getattr(module, "__all__", ()) if names is None else names)
    ]
    for module_name, name, value in public:
        anchor = f"{module_name}.{name}".replace(".", "").lower()
        yield f"- [`{module_name}.{name}`](#{anchor}): {_first_line(value)}"
    for module_name, name, value in public:
        yield from _object(module_name, name, value)


def _first_line(value: Any) -> str:  # noqa: ANN401
    first, *_ = (inspect.getdoc(value) or "").splitlines()
    return f"{first[0].lower()}{first[1:].rstrip('.')}"


def _object(module_name: str, name: str, value: Any) -> Iterator[str]:  # noqa: ANN401
    lines = textwrap.dedent(inspect.getsource(value)).splitlines()
    (node,) = ast.parse("\n".join(lines)).body
    if not isinstance(node, ast.ClassDef | ast.FunctionDef):
        raise TypeError(f"a class or a function is public, {module_name}.{name} is neither; leave it out")
    members = node.body if isinstance(node, ast.ClassDef) else []
    fields = [_source(lines, member) for member in members if isinstance(member, ast.AnnAssign)]
    methods = [member for member in members if isinstance(member, ast.FunctionDef)]
    made = [_signature(lines, method) for method in methods if method.name == "__init__"]
    yield f"\n## {module_name}.{name}\n"
    yield from _code(_signature(lines, node), *fields, *made)
    yield f"\n{_markdown(ast.get_docstring(node) or '')}"
    for method in methods:
        if not method.name.startswith("_"):
            yield f"\n### {name}.{method.name}\n"
            yield from _code(textwrap.dedent(_signature(lines, method)))
            yield f"\n{_markdown(ast.get_docstring(method) or '')}"


def _signature(lines: Sequence[str], node: ast.ClassDef | ast.FunctionDef) -> str:
    """Return the source of a definition up to its docstring."""
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    return "\n".join(lines[first - 1 : node.body[0].lineno - 1]).rstrip()


def _source(lines: Sequence[str], node: ast.stmt) -> str:
    return "\n".join(lines[node.lineno - 1 : node.end_lineno])


def _code(*parts: str) -> Iterator[str]:
    text = re.sub(r"  # noqa.*", "", "\n".join(parts))
    body = " ..." if text.endswith(":") else ""
    yield f"```python\n{text}{body}\n```"


def _markdown(docstring: str) -> str:
    """Return a docstring in Google's style with its sections as lists."""
    prose, *sections = re.split(r"^(Args|Attributes|Returns|Raises):\n", docstring, flags=re.MULTILINE)
    text = prose.strip()
    for title, body in zip(sections[::2], sections[1::2], strict=True):
        indented = re.match(r"(?: {4}.*\n?|\n(?= {4}))*", body)
        entries = textwrap.dedent(indented.group() if indented else "")
        rest = body[len(indented.group()) if indented else 0 :].strip()
        listed = re.sub(r"\n +", " ", entries.strip())
        if title != "Returns":
            listed = re.sub(r"^(\*{0,2}[\w.]+): ", r"- `\1`: ", listed, flags=re.MULTILINE)
        text += f"\n\n**{title}**\n\n{listed}" + (f"\n\n{rest}" if rest else "")
    return text


# Markdown.


def _table_head(*columns: str) -> Iterator[str]:
    yield _row(*columns)
    yield _row(*("---" for _ in columns))


def _row(*cells: str) -> str:
    inner = " | ".join(cell.replace("|", r"\|") for cell in cells)
    return f"| {inner} |"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


if __name__ == "__main__":
    main()
