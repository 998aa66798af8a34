"""Editors accept by the schema what a job file may hold, and mark what it may not."""

import jsonschema
import pytest
import yaml

from pipeline.config import all_keys, presets
from pipeline.job_schema import job_schema

SCHEMA = job_schema()
VALIDATOR = jsonschema.Draft7Validator(SCHEMA)


def messages(job):
    return [error.message for error in VALIDATOR.iter_errors(job)]


def preset(name):
    return yaml.safe_load(presets()[name].read_text())


def test_it_is_a_schema():
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == jsonschema.Draft7Validator.META_SCHEMA["$schema"]


@pytest.mark.parametrize("name", presets())
def test_every_preset_is_valid(name):
    assert messages(preset(name)) == []


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        (None, "epochs", 3, "'epochs' was unexpected"),
        ("training", "lrr", 0.1, "'lrr' was unexpected"),
        ("training", "epochs", "two", "'two' is not of type 'integer'"),
        ("training", "epochs", 0, "0 is less than the minimum of 1"),
        ("data", "crop", "middle", "'middle' is not one of"),
    ],
)
def test_a_mistake_is_marked(section, key, value, message):
    job = preset("quickstart")
    (job if section is None else job[section])[key] = value
    (found,) = messages(job)
    assert message in found


def test_every_key_has_a_description():
    described = [*SCHEMA["properties"].values()]
    for definition in SCHEMA["$defs"].values():
        described += definition["properties"].values()
    assert len(described) == len(all_keys())
    assert [key for key in described if not key.get("description")] == []
    assert "title" not in SCHEMA["properties"]["seed"]
