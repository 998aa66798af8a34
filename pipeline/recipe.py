"""Sections of the job file that say what the network learns from: labels, itself, and varied images."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from pipeline.section import Count, Fraction, NotNegative, Positive, Section, Share

TRIVIAL = "trivial"
"""The policy that is torchvision's: TrivialAugment (Mueller and Hutter 2021, arXiv:2103.10158)."""

POLICIES = rf"(rand|augmix|3a|original|originalr|v0|v0r)(-\w[\w.]*)*$|{TRIVIAL}$"
"""How timm's policies are written, and ours."""

Students = Literal["base", "base_and_sampled", "sampled"]
StudentLabels = Literal["none", "fading", "only"]


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

    `students: base`, `student_labels: none`, `features: 0` is the paper's rule (arXiv:2312.16392, section
    3.3) with logits alone.
    """

    alpha: Fraction = Field(0.5, description="share of the super-net's loss; the students have the rest")
    temperature: Positive = Field(1.0, description="divides the logits that are compared")
    top_k: Count | None = Field(
        None, description="compare only the super-net's highest classes (the authors: 500 of ImageNet's)"
    )
    features: NotNegative = Field(
        0.0, description="weight of comparing every stage's pooled output as well; the paper: 1"
    )
    students: Students = Field(
        "base",
        description="who learns in a step: the base-net, it and one depth drawn at random, or one at random",
    )
    sampled_share: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="base_and_sampled: share of the steps in which a depth is drawn"
    )
    student_labels: StudentLabels = Field(
        "none",
        description="labels for students: none, fading as the super-net learns, only (no distillation)",
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
