"""The job file: what a user may write, checked as a whole.

Every key is documented here; `skipline init` writes a commented file. One precedence: `--set` over the file
over the default. A setting that would have no effect is an error. All problems of a file are reported in one
go.
"""

import copy
import difflib
import hashlib
import json
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
from pipeline.recipe import AugmentationConfig, DistillationConfig
from pipeline.section import Count, Fraction, Integers, Positive, Section

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
        default_factory=dict, description="further arguments of timm's model class"
    )


class TrainingConfig(Section):
    """How the one training runs."""

    epochs: Count = Field(description="passes over the training images")
    batch_size: Count = Field(256, description="images of one update, over all workers")
    accumulation_steps: Count = Field(
        1, description="parts that a batch is computed in, one after the other, to save memory"
    )
    workers: Count = Field(1, description="training processes; each holds a whole copy of the network")
    cpus_per_worker: Count = Field(1, description="CPUs a worker: they compute, or with use_gpu load images")
    use_gpu: bool = Field(False, description="one GPU a worker (nccl); without it CPU (gloo)")
    optimizer: str = Field("sgd", description="timm's name of it: sgd (Nesterov's), adamw, lamb, lion, muon")
    optimizer_kwargs: dict[str, Any] = Field(
        default_factory=dict, description="further arguments of the optimizer, such as betas"
    )
    lr: Positive = Field(0.1, description="peak learning rate")
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(0.9, description="of optimizers that have one")
    weight_decay: Annotated[float, Field(ge=0)] = Field(1e-4, description="none on norms and biases")
    layer_decay: Fraction | None = Field(
        None, description="factor on lr from a layer to the one before it, for fine-tuning; 0.65 to 0.9"
    )
    clip_grad: Positive | None = Field(None, description="largest gradient norm (or value, see clip_mode)")
    clip_mode: Literal["norm", "value", "agc"] = Field(
        "norm", description="what clip_grad limits; agc is adaptive"
    )
    schedule: Literal["cosine", "multistep", "step", "poly", "tanh"] = Field(
        "cosine", description="how the learning rate falls"
    )
    warmup_epochs: Annotated[int, Field(ge=0)] = Field(0, description="epochs of linear rise to lr")
    min_lr: Annotated[float, Field(ge=0)] = Field(0.0, description="where cosine, poly and tanh end")
    milestones: Integers = Field(
        (), description="multistep only: epochs at which lr is multiplied by decay_rate"
    )
    step_epochs: Count | None = Field(None, description="step only: epochs between two falls of lr")
    decay_rate: Fraction = Field(0.1, description="multistep and step only")
    loss: Literal["cross_entropy", "bce"] = Field(
        "cross_entropy", description="of labels; bce asks of every class whether it is there"
    )
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="of the loss of labels")
    ema_decay: Fraction | None = Field(
        None, description="keep a moving average of the weights, 0.9999 is usual; the better of both is used"
    )
    precision: Literal["float32", "bf16", "fp16"] = Field(
        "float32", description="bf16 and fp16 are autocast, weights stay float32"
    )
    passes: Literal["joint", "sequential"] = Field(
        "joint", description="both depths in one backward pass, or one after the other to save memory"
    )
    recompute_activations: bool = Field(
        False, description="keep no activations of stages for the backward pass, compute them twice"
    )
    compile: bool = Field(False, description="torch.compile the training step")
    sync_batch_norm: bool = Field(False, description="GPUs only: BatchNorm sees the images of all workers")
    keep_checkpoints: Annotated[int, Field(ge=2)] = Field(
        2,
        description="best checkpoints kept beside the latest; at least 2, lest a broken one be all",
    )
    best_by: Literal["score", "full/top1", "base/top1", "full/loss", "base/loss"] = Field(
        "score", description="validation metric of the best checkpoint; score: hypervolume of the profiles"
    )
    deterministic: bool = Field(
        False, description="same weights bit for bit in every run on the same machine; slower on a GPU"
    )

    @property
    def micro_batch_size(self) -> int:
        """Images that all workers together compute at a time."""
        return self.batch_size // self.accumulation_steps

    @property
    def best_is(self) -> Literal["max", "min"]:
        """Whether the best checkpoint has the largest or the smallest value of `best_by`."""
        return "min" if self.best_by.endswith("/loss") else "max"

    @property
    def num_loader_workers(self) -> int:
        """Processes that load images for one worker: all CPUs but one beside a GPU, else none."""
        return self.cpus_per_worker - 1 if self.use_gpu else 0

    @property
    def num_threads(self) -> int:
        """Threads that one worker computes with."""
        return self.cpus_per_worker - self.num_loader_workers

    @model_validator(mode="after")
    def _settings_fit_together(self) -> Self:
        parts = self.workers * self.accumulation_steps
        if self.batch_size % parts:
            raise ValueError(
                "batch_size must be a multiple of workers times accumulation_steps, got "
                f"{self.batch_size} and {parts}; write {self.batch_size // parts * parts or parts}"
            )
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs < epochs must hold, got {self.warmup_epochs} and {self.epochs}")
        self._check_optimizer()
        self._check_schedule()
        self.refuse_without_effect({"clip_mode": self.clip_grad is not None}, "without clip_grad")
        if self.sync_batch_norm and not (self.use_gpu and self.workers > 1):
            raise ValueError(
                f"sync_batch_norm needs several workers with a GPU each, got workers: {self.workers} and "
                f"use_gpu: {str(self.use_gpu).lower()}; leave it out"
            )
        return self

    def _check_optimizer(self) -> None:
        # Imported here: timm takes seconds, and not every command needs it.
        from timm.optim import get_optimizer_info, list_optimizers

        if self.optimizer not in list_optimizers():
            near = difflib.get_close_matches(self.optimizer, list_optimizers(), n=3)
            hint = f"did you mean {', '.join(near)}?" if near else "sgd, adamw and lamb are usual"
            raise ValueError(f"optimizer must be one of timm's, got {self.optimizer!r}; {hint}")
        has_momentum = get_optimizer_info(self.optimizer).has_momentum
        self.refuse_without_effect({"momentum": has_momentum}, f"with optimizer: {self.optimizer}")

    def _check_schedule(self) -> None:
        if self.schedule == "multistep" and not self.milestones:
            raise ValueError(
                "schedule: multistep needs milestones, got none; write such as milestones: [60, 100]"
            )
        if self.schedule == "step" and self.step_epochs is None:
            raise ValueError("schedule: step needs step_epochs, got none; write such as step_epochs: 30")
        self.refuse_without_effect(
            {
                "milestones": self.schedule == "multistep",
                "step_epochs": self.schedule == "step",
                "decay_rate": self.schedule in ("multistep", "step"),
                "min_lr": self.schedule in ("cosine", "poly", "tanh"),
            },
            f"with schedule: {self.schedule}",
        )


class SearchConfig(Section):
    """What to search before the training, and for how long."""

    space: str = Field(description="a YAML file, or the name of one in search_spaces/")
    trials: Count = Field(
        8, description="how many designs; the first is the paper's split with the job's settings"
    )
    epochs: Count = Field(description="epochs of a trial that is never stopped early")
    objective: Literal["hypervolume"] = Field(
        "hypervolume",
        description="area under the curve of best accuracy against relative MACs over all profiles",
    )
    data_fraction: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="share of the images for a trial"
    )


class EvaluationConfig(Section):
    """How latencies are measured."""

    latency_batch_size: Count = Field(1, description="images of one timed call")
    latency_runs: Annotated[int, Field(ge=2)] = Field(
        30, description="timed calls a profile, after 5 untimed ones"
    )


class RegistryConfig(Section):
    """Where the result is registered."""

    model: str = Field(description="name of the registered model")
    tracking_uri: str | None = Field(None, description="any MLflow URI; without it SQLite below storage")
    experiment: str = Field("skipline", description="MLflow experiment of the runs")


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
    evaluation: EvaluationConfig = Field(EvaluationConfig(), description="how latencies are measured")
    registry: RegistryConfig = Field(description="where the result is registered")
    storage: str = Field("runs", description="folder for checkpoints, results and the embedded MLflow")
    s3: S3Config = Field(S3Config(), description="how s3:// locations are reached")

    @field_validator("s3")
    @classmethod
    def _s3_has_an_effect(cls, value: S3Config, info: ValidationInfo) -> S3Config:
        data: DataConfig | None = info.data.get("data")
        locations = (data.train, data.validation or "") if data else ("s3://",)
        is_used = any(text.startswith("s3://") for text in (*locations, info.data.get("storage", "")))
        if value != S3Config() and not is_used:
            raise ValueError("the settings have no effect without an s3:// location; leave them out")
        return value

    @property
    def folder(self) -> Path:
        """Where everything of this job is kept."""
        return Path(self.storage).absolute() / self.name

    def settings(self) -> dict[str, Any]:
        """Return what decides the result, as plain data: all but where it is stored."""
        return self.model_dump(mode="json", exclude={"storage", "registry", "name"})

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
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise RequestError(
                f"an override must be written KEY=VALUE, got {setting!r}; write such as training.epochs=3"
            )
        set_dotted(data, key.strip(), yaml.safe_load(value))
    return data


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
