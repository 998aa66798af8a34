"""The search section of a job file: what is searched, for how long, and what becomes of the winner."""

from typing import Annotated, Any, Literal, get_args
from urllib.parse import parse_qs, urlsplit

from pydantic import Field, field_validator, model_validator

from pipeline.section import Count, Positive, Section, Share

ParetoValue = Literal["full_accuracy", "base_accuracy", "base_cost"]
"""What designs can be traded off by; `base_cost` is the base-net's, as a share of the super-net's."""


class SearchConfig(Section):
    """What to search before the training, and for how long."""

    space: str = Field(description="a YAML file, or the name of one in search_spaces/")
    trials: Count = Field(
        8, description="how many designs; the first is the paper's split with the job's settings"
    )
    epochs: Count = Field(description="epochs of a trial that is never stopped early")
    objective: Literal["hypervolume", "full_accuracy", "base_accuracy", "budget"] = Field(
        "hypervolume",
        description="hypervolume of accuracy and relative MACs; budget: best accuracy within the limits",
    )
    cost: Literal["macs", "latency"] = Field(
        "macs",
        description="of a profile, in the hypervolume; latency is measured on a worker beforehand",
    )
    max_gmacs: Positive | None = Field(None, description="budget: 1e9 multiply-adds of a profile at most")
    max_mparams: Positive | None = Field(None, description="budget: 1e6 parameters of a profile at most")
    max_ms: Positive | None = Field(
        None, description="budget: milliseconds of one call at most, measured on a worker before the search"
    )
    pareto: Annotated[tuple[ParetoValue, ...], Field(strict=False)] = Field(
        (), description="values to trade off; the winner is the one of their front with the best objective"
    )
    data_fraction: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="share of the images for a trial"
    )
    image_size: Count | None = Field(
        None,
        description="height and width of a trial's images in pixels; without it the job's",
    )
    sampler: Literal["tpe", "gp", "nsga2", "random"] = Field(
        "tpe",
        description="who proposes designs: Optuna's tree-structured Parzen estimator, Gaussian process, "
        "genetic algorithm",
    )
    scheduler: Literal["asha", "hyperband", "median", "none"] = Field(
        "asha",
        description="which trials are stopped early: asha lets the better half go on at epochs 1, 2, 4",
    )
    paper_first: bool = Field(True, description="the first trial is the job's own design")
    start_points: Annotated[tuple[dict[str, Any], ...], Field(strict=False)] = Field(
        (), description="designs to try next, by dotted key; what one leaves out is as in the job"
    )
    warmup: Literal["one_shot"] | None = Field(
        None, description="one_shot: train all splits at once first, and try the best three of them next"
    )
    warm_start: str | None = Field(
        None, description="folder of a job, STORAGE/NAME, whose trials the sampler shall know"
    )
    repeats: Annotated[int, Field(ge=0)] = Field(
        0, description="trainings of winner and own design with new seeds, to tell the gain from noise"
    )
    winner: Literal["retrain", "continue"] = Field(
        "retrain",
        description="the training starts anew with the winner's settings; continue: from its weights",
    )
    max_failed: Share = Field(0.5, description="share of the trials that may fail before the search gives up")
    study: str | None = Field(
        None, description="Optuna storage, any database URI; without it SQLite beside the results"
    )

    @model_validator(mode="after")
    def _limits_belong_to_a_budget(self) -> "SearchConfig":
        is_budget = self.objective == "budget"
        limits = ("max_gmacs", "max_mparams", "max_ms")
        self.refuse_without_effect(dict.fromkeys(limits, is_budget), "without objective: budget")
        if is_budget and all(getattr(self, limit) is None for limit in limits):
            raise ValueError(f"objective: budget needs one of {', '.join(limits)}, got none; write one")
        is_curve = self.objective == "hypervolume" or "base_cost" in self.pareto
        self.refuse_without_effect({"cost": is_curve}, "without objective: hypervolume or pareto: base_cost")
        return self

    @model_validator(mode="after")
    def _smaller_images_have_other_costs(self) -> "SearchConfig":
        if self.image_size is not None and self.max_gmacs is not None:
            raise ValueError(
                f"max_gmacs is for images of data.image_size, got search.image_size: {self.image_size} as "
                "well; leave one of them out, or limit max_ms or max_mparams"
            )
        return self

    @model_validator(mode="after")
    def _a_front_has_two_sides(self) -> "SearchConfig":
        if self.pareto and (len(set(self.pareto)) < len(self.pareto) or len(self.pareto) < 2):
            raise ValueError(
                f"pareto trades different values off, got {', '.join(self.pareto)}; write two or three of "
                f"{', '.join(get_args(ParetoValue))}, or leave it out"
            )
        if self.pareto and self.warm_start is not None:
            raise ValueError(
                "warm_start knows what one objective reached, got pareto as well; leave one of them out"
            )
        return self

    @model_validator(mode="after")
    def _weights_that_go_on_fit(self) -> "SearchConfig":
        for key, value in (("image_size", self.image_size), ("pareto", ", ".join(self.pareto))):
            if self.winner == "continue" and value:
                raise ValueError(
                    f"winner: continue keeps the weights of the best score for the same network, got {key}: "
                    f"{value} as well; write winner: retrain, or leave {key} out"
                )
        return self

    @property
    def needs_latency(self) -> bool:
        """Whether latencies have to be measured before the search."""
        return self.cost == "latency" or self.max_ms is not None

    @field_validator("study")
    @classmethod
    def _study_has_no_password(cls, value: str | None) -> str | None:
        address = urlsplit(value or "")
        if address.password is not None or "password" in parse_qs(address.query):
            raise ValueError(
                "study must hold no password, the one given does; leave it out and set it where the "
                "database's client looks for it, such as PGPASSWORD or ~/.pgpass"
            )
        return value
