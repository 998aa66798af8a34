"""The gate section of a job file: what a version must reach to become the champion."""

from pydantic import Field

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
