"""The job file: what a user may write, checked as a whole.

Every key is documented here; `skipline init` writes a commented file. One precedence: `--set` over the file
over the default. A setting that would have no effect is an error. All problems of a file are reported in one
go.
"""

import copy
import difflib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

import yaml
from pydantic import (
    BaseModel,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from pipeline.errors import RequestError
from pipeline.gate_config import GateConfig
from pipeline.recipe import AugmentationConfig, DistillationConfig, TrainingConfig
from pipeline.search_config import SearchConfig
from pipeline.section import Count, Fraction, Integers, Section

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


class DataConfig(Section):
    """Which images to learn from."""

    train: str = Field(
        description="builtin:digits, or a path or s3:// location: class folders, Parquet, tar, saved data set"
    )
    validation: str | None = Field(
        None, description="held-out images; without it a part of train is held out"
    )
    validation_fraction: Fraction = Field(0.1, description="share of train held out, stratified by class")
    cache_limit_gib: Annotated[float, Field(gt=0)] = Field(
        200.0, description="larger Parquet or S3 shards are streamed, not kept whole on every machine"
    )
    image_size: Count = Field(224, description="height and width in pixels that the network sees")
    crop: Literal["random_resized", "pad", "none"] = Field(
        "random_resized",
        description="training crop: random area, random place after padding by 1/8, or none",
    )
    flip_probability: Annotated[float, Field(ge=0, le=1)] = Field(0.5, description="of a horizontal flip")
    bad_items: Literal["fail", "skip"] = Field(
        "fail", description="corrupt images, missing labels: fail or skip"
    )
    max_bad_fraction: Fraction = Field(0.01, description="with skip: more than this share still fails")

    @model_validator(mode="after")
    def _settings_have_an_effect(self) -> Self:
        if self.validation is not None and self.is_changed("validation_fraction"):
            raise ValueError("validation_fraction has no effect beside validation; leave one of the two out")
        if self.bad_items == "fail" and self.is_changed("max_bad_fraction"):
            raise ValueError("max_bad_fraction has no effect with bad_items: fail; write bad_items: skip")
        return self


class S3Config(Section):
    """How to reach an S3-compatible store; credentials come from the environment or ~/.aws alone."""

    endpoint_url: str | None = Field(
        None, description="such as http://minio:9000; without it AWS_ENDPOINT_URL, else Amazon"
    )
    region: str | None = Field(None, description="without it AWS_DEFAULT_REGION or ~/.aws/config")
    addressing_style: Literal["auto", "path", "virtual"] = Field(
        "auto", description="path: bucket behind the host, as many other stores need; virtual: before it"
    )

    @field_validator("endpoint_url")
    @classmethod
    def _endpoint_is_a_plain_address(cls, value: str | None) -> str | None:
        address = urlsplit(value or "http://any")
        if "@" in address.netloc or address.query:
            raise ValueError(
                "endpoint_url must hold no credentials, the one given does; set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
            )
        if address.scheme not in ("http", "https") or not address.hostname:
            raise ValueError(f"endpoint_url must be http(s)://HOST[:PORT], got {value!r}; correct it")
        return value


class BackboneConfig(Section):
    """Which timm network to give adaptive depth."""

    name: str = Field(description="timm model name, such as resnet50 or vit_small_patch16_224")
    pretrained: bool | str = Field(
        False,
        description="true: start from timm's weights; a path: from a .safetensors or torch checkpoint",
    )
    small_images: bool = Field(
        False, description="ResNet: 3x3 stem, stride 1, no pooling, for images of 32 pixels"
    )
    stages: Count | None = Field(
        None, description="ViT and others whose blocks are all alike: stages to group them in; default 4"
    )
    skip_aware_norms: bool = Field(
        True, description="false leaves norms shared by whole and skipped stages (the paper's ablation)"
    )
    kwargs: dict[str, Any] = Field(
        default_factory=dict,
        description="further arguments of timm's model class; in_chans: 1 reads grey images",
    )


class EvaluationConfig(Section):
    """How depth profiles are measured."""

    calibration_images: Annotated[int, Field(ge=0)] = Field(
        1024,
        description="training images to take BatchNorm statistics of every path from; 0: training's own",
    )
    latency_batch_size: Count = Field(1, description="images of one timed call")
    latency_runs: Annotated[int, Field(ge=2)] = Field(
        30, description="timed calls a profile, after 5 untimed ones"
    )
    shown_images: Annotated[int, Field(ge=0)] = Field(
        24,
        description="validation images that the report shows, of those where full and base differ; 0: none",
    )


class RegistryConfig(Section):
    """Where the result is registered."""

    model: str = Field(description="name of the registered model")
    tracking_uri: str | None = Field(
        None, description="any MLflow URI; without it MLFLOW_TRACKING_URI, else SQLite below storage"
    )
    experiment: str = Field("skipline", description="MLflow experiment of the runs")
    gate: GateConfig = Field(GateConfig(), description="what a version must reach to become the champion")


class LimitsConfig(Section):
    """What a job may take of a cluster that it shares with others."""

    max_workers: Count | None = Field(None, description="training processes at a time, over all trials")
    max_gpus: Count | None = Field(None, description="GPUs at a time, over all trials")

    def most_workers(self, training: TrainingConfig) -> int | None:
        """Return how many workers may run at a time; None for as many as there is room for."""
        gpus = self.max_gpus if training.use_gpu else None
        return min((limit for limit in (self.max_workers, gpus) if limit is not None), default=None)


class Job(Section):
    """A whole job file."""

    name: Annotated[str, Field(pattern=NAME_PATTERN, max_length=100)] = Field(
        description="the name of the job, which also names its folder"
    )
    seed: Annotated[int, Field(ge=0, lt=2**31)] = Field(0, description="every random source follows from it")
    data: DataConfig = Field(description="which images to learn from")
    backbone: BackboneConfig = Field(description="which timm network to give adaptive depth")
    split: Literal["paper"] | Integers = Field(
        "paper", description="mandatory blocks of every stage; a search starts from it"
    )
    training: TrainingConfig = Field(description="how the one training runs")
    distillation: DistillationConfig = Field(
        DistillationConfig(), description="how the shallower depths learn from the whole network"
    )
    augmentation: AugmentationConfig = Field(
        AugmentationConfig(), description="how training images are varied, beside crop and flip"
    )
    search: SearchConfig | None = Field(
        None, description="left out: no search, the settings above are trained"
    )
    evaluation: EvaluationConfig = Field(EvaluationConfig(), description="how depth profiles are measured")
    registry: RegistryConfig = Field(description="where the result is registered")
    storage: str = Field(
        "runs",
        description="folder or s3://BUCKET/PREFIX of checkpoints and results; a folder has MLflow, too",
    )
    s3: S3Config = Field(S3Config(), description="how s3:// locations are reached")
    limits: LimitsConfig = Field(LimitsConfig(), description="what the job may take of a shared cluster")

    @field_validator("limits")
    @classmethod
    def _limits_let_it_train(cls, value: LimitsConfig, info: ValidationInfo) -> LimitsConfig:
        training: TrainingConfig | None = info.data.get("training")
        most = value.most_workers(training) if training else None
        if training and most is not None and most < training.workers:
            raise ValueError(
                f"max_workers and max_gpus must let one training run, got {most} for training.workers "
                f"{training.workers}; raise the limit or lower training.workers"
            )
        return value

    @field_validator("storage")
    @classmethod
    def _storage_has_a_registry(cls, value: str, info: ValidationInfo) -> str:
        scheme, separator, _ = value.partition("://")
        if separator and scheme != "s3":
            raise ValueError(
                f"storage must be a folder or s3://BUCKET/PREFIX, got {scheme}://...; other stores that "
                "speak S3's protocol are named by s3.endpoint_url"
            )
        registry: RegistryConfig | None = info.data.get("registry")
        named = registry is None or registry.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
        if separator and not named:
            raise ValueError(
                "storage in an object store cannot hold the embedded MLflow, got no registry.tracking_uri; "
                "name an MLflow server or a database there, or by MLFLOW_TRACKING_URI"
            )
        return value

    @field_validator("s3")
    @classmethod
    def _s3_has_an_effect(cls, value: S3Config, info: ValidationInfo) -> S3Config:
        data: DataConfig | None = info.data.get("data")
        locations = (data.train, data.validation or "") if data else ("s3://",)
        is_used = any(text.startswith("s3://") for text in (*locations, info.data.get("storage", "s3://")))
        if value != S3Config() and not is_used:
            raise ValueError("the settings have no effect without an s3:// location; leave them out")
        return value

    def settings(self) -> dict[str, Any]:
        """Return what decides the result, as plain data: no places, not how a run keeps going or is shown."""
        return self.model_dump(
            mode="json",
            exclude={
                **dict.fromkeys(("storage", "s3", "registry", "name", "limits"), True),
                "training": {"min_workers", "checkpoint_minutes"},
                "evaluation": {"shown_images"},
            },
        )

    def key(self) -> str:
        """Return the identity of the job: the same name and settings are the same job."""
        text = json.dumps([self.name, self.settings()], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def override(self, values: Mapping[str, Any]) -> "Job":
        """Return the job with other values at dotted keys.

        Raises:
            RequestError: If a key does not exist or a value does not fit.
        """
        data = self.model_dump(mode="json")
        for key, value in values.items():
            set_dotted(data, key, value)
        return parse_job(data)


def load_job(source: str, settings: Sequence[str] = ()) -> Job:
    """Read and check a job file or preset; see `read_job` and `parse_job`."""
    return parse_job(read_job(source, settings))


def read_job(source: str, settings: Sequence[str] = ()) -> dict[str, Any]:
    """Read a job file or preset as plain data, not checked yet.

    Args:
        source: Path of a YAML file, or the name of a preset.
        settings: Overrides such as `training.epochs=3`; values are read as YAML.

    Raises:
        RequestError: If there is no such file, it is not YAML, or an override is not written KEY=VALUE.
    """
    data = _read_yaml(find_job_file(source))
    apply_settings(data, settings)
    return data


def apply_settings(data: dict[str, Any], settings: Sequence[str]) -> None:
    """Set keys of plain data in place, each written KEY=VALUE; raises RequestError where one is not."""
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise RequestError(
                f"an override must be written KEY=VALUE, got {setting!r}; write such as training.epochs=3"
            )
        set_dotted(data, key.strip(), yaml.safe_load(value))


def parse_job(data: Mapping[str, Any]) -> Job:
    """Check plain data as a job; raises RequestError with all problems."""
    found = examine_job(data)
    if found.job is None or found.problems:
        raise RequestError(found.problems)
    return found.job


STAND_INS: dict[str, Any] = {
    "name": "job",
    "data.train": "builtin:digits",
    "backbone.name": "resnet18",
    "training.epochs": 1_000_000,
    "search.space": "resnet",
    "search.epochs": 1_000_000,
    "registry.model": "model",
}
"""What takes the place of a required key that is wrong, so that the rest of its job can still be checked."""


@dataclass(frozen=True)
class Examination:
    """What is wrong with a job file, and what can still be checked of it.

    Attributes:
        job: The job without its wrong keys, or None where they leave none.
        problems: Law, value seen and way out of each.
        stand_ins: Required keys of `job` whose values are not the user's.
    """

    job: Job | None
    problems: tuple[str, ...] = ()
    stand_ins: frozenset[str] = frozenset()


def examine_job(data: Mapping[str, Any]) -> Examination:
    """Return what is wrong with a job, all of it in one go.

    Settings are compared with each other only where each is sound, so a job with wrong keys is looked at
    again without them.
    """
    rest, problems, stand_ins = copy.deepcopy(dict(data)), list[str](), frozenset[str]()
    for _ in range(MAX_EXAMINATIONS):
        try:
            return Examination(Job.model_validate(rest), tuple(problems), stand_ins)
        except ValidationError as error:
            found = [_explain(problem) for problem in error.errors()]
            problems += [text for text in found if text not in problems]
            _remove_wrong_keys(rest, error)
            stand_ins |= _fill_in(rest)
    return Examination(None, tuple(problems), stand_ins)


MAX_EXAMINATIONS = 4
"""Chosen: single keys, then settings of a section, then sections against each other, and one to spare."""


def _remove_wrong_keys(data: dict[str, Any], error: ValidationError) -> None:
    for problem in error.errors():
        section, *keys = (str(step) for step in problem["loc"])
        if keys and isinstance(data.get(section), dict):
            data[section].pop(keys[0], None)
        elif not keys or section == "split":
            data.pop(section, None)


def _fill_in(data: dict[str, Any]) -> frozenset[str]:
    """Put stand-ins at required keys that are missing; returns these keys."""
    missing = [key for key in STAND_INS if _is_missing(data, key)]
    for key in missing:
        set_dotted(data, key, STAND_INS[key])
    return frozenset(missing)


def _is_missing(data: Mapping[str, Any], key: str) -> bool:
    section, _, name = key.rpartition(".")
    if section == "search" and data.get(section) is None:
        return False
    return name not in (data.get(section) or {} if section else data)


def presets() -> dict[str, Path]:
    """Return the job files that travel with the package, by name."""
    folder = Path(str(resources.files("pipeline") / "presets"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find_job_file(source: str) -> Path:
    """Return the file that a path or a preset's name means; raises RequestError if there is none."""
    path = Path(source)
    if path.is_file():
        return path
    if source in presets():
        return presets()[source]
    raise RequestError(
        f"JOB must be a job file or a preset, got {source!r}, which is neither; "
        f"presets: {', '.join(presets())}; `skipline init` writes a job file"
    )


def set_dotted(data: dict[str, Any], key: str, value: Any) -> None:  # noqa: ANN401
    """Put a value at a dotted key, with mappings for the steps between.

    Raises:
        RequestError: If a step between is there and not a mapping.
    """
    *parents, name = key.split(".")
    for parent in parents:
        if data.get(parent) is None:
            data[parent] = {}
        data = data[parent]
        if not isinstance(data, dict):
            raise RequestError(
                f"a key path must lead through mappings, got {key!r}, but {parent!r} is {data!r}"
            )
    data[name] = value


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RequestError(f"a job file must be YAML, {path} is not: {error}") from error
    if not isinstance(data, dict):
        raise RequestError(f"a job file must be a mapping of keys, {path} holds {type(data).__name__}")
    return data


def _explain(problem: ErrorDetails) -> str:
    # pydantic adds the name of a union's branch, such as literal['paper'] or bool, to the key path.
    steps = [str(step) for step in problem["loc"] if "[" not in str(step) and step not in ("bool", "str")]
    key = ".".join(steps)
    match problem["type"]:
        case "extra_forbidden":
            return f"unknown key {key!r} with the value {problem['input']!r}; {_nearest_key(key)}"
        case "missing":
            return (
                f"key {key!r} is required and missing; write {key.rpartition('.')[2]}: with {all_keys()[key]}"
            )
        case "value_error":
            return f"{key}: {problem['ctx']['error']}"
        case _:
            return f"{key}: {problem['msg'][0].lower()}{problem['msg'][1:]}, got {problem['input']!r}"


def _nearest_key(key: str) -> str:
    section, _, _ = key.rpartition(".")
    siblings = [known for known in all_keys() if known.rpartition(".")[0] == section]
    near = difflib.get_close_matches(key, all_keys(), n=1, cutoff=0.8)
    return f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(siblings)}"


def all_keys() -> dict[str, str]:
    """Return every dotted key of the job file with its description."""
    return dict(_walk(Job, ""))


def _walk(section: type[BaseModel], prefix: str) -> Iterator[tuple[str, str]]:
    for name, info in section.model_fields.items():
        yield f"{prefix}{name}", info.description or ""
        for kind in (info.annotation, *getattr(info.annotation, "__args__", ())):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from _walk(kind, f"{prefix}{name}.")
