"""The JSON schema of the job file, by which editors complete keys, explain them and mark mistakes."""

from typing import Any

from pipeline.config import Job

DIALECT = "http://json-schema.org/draft-07/schema#"
"""What editors know best; of all that pydantic writes for a job, nothing means another thing in it."""


def job_schema() -> dict[str, Any]:
    """Return the schema: keys, types, ranges, defaults and meanings; unknown keys are refused.

    How settings depend on each other is not in it.
    """
    return {"$schema": DIALECT, "title": "Skipline job", **_without_titles(Job.model_json_schema())}


def _without_titles(part: Any) -> Any:  # noqa: ANN401
    """Return a schema without pydantic's titles, which repeat the keys; a key of that name stays."""
    if isinstance(part, list):
        return [_without_titles(inner) for inner in part]
    if not isinstance(part, dict):
        return part
    return {
        key: {name: _without_titles(inner) for name, inner in value.items()}
        if key in ("properties", "$defs")
        else _without_titles(value)
        for key, value in part.items()
        if key != "title"
    }
