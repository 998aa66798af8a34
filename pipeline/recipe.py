"""Sections of the job file that say how the network learns: from labels, from itself, from varied images."""

import difflib
import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from pipeline.section import Count, Fraction, Integers, NotNegative, Positive, Section, Share

TRIVIAL = "trivial"
"""The policy that is torchvision's: TrivialAugment (Mueller and Hutter 2021, arXiv:2103.10158)."""

POLICIES = rf"(rand|augmix|3a|original|originalr|v0|v0r)(-\w[\w.]*)*$|{TRIVIAL}$"
"""How timm's policies are written, and ours."""

Students = Literal["base", "base_and_sampled", "sampled"]
StudentLabels = Literal["none", "fading", "only"]
FeatureStages = Literal["all", "all_but_first"]
StochasticDepth = Literal["all", "super_net"]


class TrainingConfig(Section):
    """How the one training runs."""

    epochs: Count = Field(description="passes over the training images")
    batch_size: Count = Field(256, description="images of one update, over all workers")
    accumulation_steps: Count = Field(
        1, description="parts that a batch is computed in, one after the other, to save memory"
    )
    workers: Count = Field(1, description="training processes; each holds a whole copy of the network")
    min_workers: Count | None = Field(
        None,
        description="elastic: go on with as few where machines are lost, and take in new ones; not in trials",
    )
    cpus_per_worker: Count = Field(1, description="CPUs a worker: they compute, or with use_gpu load images")
    use_gpu: bool = Field(False, description="one GPU a worker (nccl); without it CPU (gloo)")
    optimizer: str = Field(
        "sgd", description="timm's name of it: momentum (plain SGD), sgd (Nesterov's), adamw, lamb"
    )
    optimizer_kwargs: dict[str, Any] = Field(
        default_factory=dict, description="further arguments of the optimizer, such as betas"
    )
    lr: Positive = Field(0.1, description="peak learning rate")
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(0.9, description="of optimizers that have one")
    weight_decay: Annotated[float, Field(ge=0)] = Field(
        1e-4, description="none on norms, biases and position embeddings, see decay_all"
    )
    decay_all: bool = Field(False, description="weight_decay of norms, biases and position embeddings, too")
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
        "score", description="validation metric of the best checkpoint; score: that of the search's objective"
    )
    checkpoint_minutes: Positive | None = Field(
        None, description="longest time between two checkpoints; without it one an epoch"
    )
    deterministic: bool = Field(
        False, description="same weights bit for bit in every run on the same machine; slower on a GPU"
    )

    @property
    def micro_batch_size(self) -> int:
        """Images that all workers together compute at a time."""
        return self.batch_size // self.accumulation_steps

    @property
    def fewest_workers(self) -> int:
        """Workers without which no training runs."""
        return self.workers if self.min_workers is None else self.min_workers

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
        if self.min_workers is not None and self.min_workers > self.workers:
            raise ValueError(
                f"min_workers <= workers must hold, got {self.min_workers} and {self.workers}; workers is "
                "their number where none is missing"
            )
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs < epochs must hold, got {self.warmup_epochs} and {self.epochs}")
        self._check_optimizer()
        self._check_schedule()
        self.refuse_without_effect({"decay_all": self.weight_decay > 0}, "with weight_decay: 0")
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


class TeacherConfig(Section):
    """A trained network that teaches the whole network, beside the labels."""

    name: str = Field(description="timm model name")
    weights: bool | str = Field(
        True, description="true: timm's; a path: a .safetensors or torch checkpoint for the job's classes"
    )
    share: Annotated[float, Field(gt=0, le=1)] = Field(0.5, description="of the super-net's loss")
    kwargs: dict[str, Any] = Field(
        default_factory=dict, description="further arguments of timm's model class"
    )

    @model_validator(mode="after")
    def _is_trained(self) -> Self:
        if self.weights is False:
            raise ValueError("a teacher must be trained, got weights: false; write true or a path")
        return self


class DistillationConfig(Section):
    """How the shallower depths learn from the whole network.

    `reduction: mean`, `students: base`, `student_labels: none`, `features: 0` with `training.passes:
    sequential` is the paper's rule (arXiv:2312.16392, section 3.3) with logits alone. The defaults cost 5 %
    more in a step and bring more after short training.
    """

    alpha: Fraction = Field(0.5, description="share of the super-net's loss; the students have the rest")
    reduction: Literal["sum", "mean"] = Field(
        "sum",
        description="mean: losses times their shares, the paper's; sum: that divided by alpha, so that the "
        "super-net's loss weighs what it does in a plain training, and recipes of plain networks fit",
    )
    temperature: Positive = Field(1.0, description="divides the logits that are compared")
    top_k: Count | None = Field(
        None, description="compare only the super-net's highest classes (the authors: 500 of ImageNet's)"
    )
    features: NotNegative = Field(
        0.0, description="weight of comparing stages' pooled outputs as well; the paper: 1"
    )
    feature_temperature: Positive | None = Field(
        None, description="divides the pooled outputs that are compared; without it temperature does"
    )
    feature_stages: FeatureStages = Field(
        "all",
        description="whose outputs are compared; the authors leave a ResNet's first stage out (no better as "
        "measured)",
    )
    students: Students = Field(
        "base_and_sampled",
        description="who learns in a step: the base-net, it and one depth drawn at random, or one at random",
    )
    sampled_share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.25, description="base_and_sampled: share of the steps in which a depth is drawn"
    )
    student_labels: StudentLabels = Field(
        "fading",
        description="labels for students: none, fading as the super-net learns, only (no distillation)",
    )
    stochastic_depth: StochasticDepth = Field(
        "all",
        description="where drop_path_rate drops blocks: in all depths, or in the super-net alone (the "
        "authors; no better as measured): a student then drops none from its first skipped stage on",
    )
    teacher: TeacherConfig | None = Field(
        None, description="a trained network that teaches the whole network"
    )

    @model_validator(mode="after")
    def _settings_have_an_effect(self) -> Self:
        distils = self.student_labels != "only"
        compares = distils or self.teacher is not None
        self.refuse_without_effect(
            {"temperature": compares, "top_k": compares, "features": distils}, "with student_labels: only"
        )
        self.refuse_without_effect(
            {"sampled_share": self.students == "base_and_sampled"}, "without students: base_and_sampled"
        )
        compares_features = self.features > 0
        self.refuse_without_effect(
            {"feature_temperature": compares_features, "feature_stages": compares_features},
            "with features: 0",
        )
        return self


class AugmentationConfig(Section):
    """How training images are varied, beside the crop and flip of the data section; all of it timm's."""

    policy: str | None = Field(
        None,
        description="timm's name, such as rand-m9-mstd0.5-inc1 (RandAugment), augmix-m3-w3, 3a; or trivial",
    )
    color_jitter: NotNegative = Field(0.0, description="strength of random brightness, contrast, saturation")
    erasing: Share = Field(0.0, description="probability that a random area is replaced by noise")
    repeats: Count = Field(
        1, description="times that an image comes in one batch, varied anew; DeiT: 3 (not for streamed data)"
    )
    mixup: NotNegative = Field(0.0, description="alpha of mixup; 0 turns it off, 0.2 to 0.8 are usual")
    cutmix: NotNegative = Field(0.0, description="alpha of cutmix; 0 turns it off, 1.0 is usual")
    mix_probability: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="share of the batches that are mixed"
    )
    cutmix_probability: Fraction = Field(
        0.5, description="with both: share of the mixed batches that cutmix has"
    )

    @property
    def mixes(self) -> bool:
        """Whether images of a batch are mixed, so that targets are shares of classes."""
        return self.mixup > 0 or self.cutmix > 0

    @model_validator(mode="after")
    def _settings_have_an_effect(self) -> Self:
        self.refuse_without_effect({"mix_probability": self.mixes}, "without mixup or cutmix")
        if self.policy is not None and not re.match(POLICIES, self.policy):
            raise ValueError(
                f"policy must be {TRIVIAL} or a name of timm's, got {self.policy!r}; "
                "rand-m9-mstd0.5-inc1 is usual"
            )
        has_both = self.mixup > 0 and self.cutmix > 0
        self.refuse_without_effect({"cutmix_probability": has_both}, "without both mixup and cutmix")
        return self
