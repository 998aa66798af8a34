"""The gate section of a job file: what a version must reach to become the champion."""

import re

from pydantic import Field, field_validator

from pipeline.section import Section, Share


class GateConfig(Section):
    """Rules of promotion; without any a version still has to be better than the champion."""

    floors: dict[str, Share] = Field(
        {}, description="least top-1 by profile, such as {full: 0.9, base: 0.85}"
    )
    max_gap: Share | None = Field(None, description="largest top-1 of full less that of base")
    tolerance: Share = Field(0.0, description="top-1 that a profile may lose against the champion's")
    latency_tolerance: Share = Field(
        0.1, description="share that a profile may be slower; compared where measured under like conditions"
    )

    @field_validator("floors")
    @classmethod
    def _floors_are_of_profiles(cls, value: dict[str, float]) -> dict[str, float]:
        for profile in value:
            if not re.fullmatch(r"full|base|[TF]+", profile):
                raise ValueError(
                    f"floors are of full, base, or letters T and F, got {profile!r}; write for example "
                    "{full: 0.9, base: 0.85}"
                )
        return value
