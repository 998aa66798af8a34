"""One call of a model: checked before it runs, and told afterwards what it asked for."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Call:
    """What one call gave, read and checked.

    Attributes:
        images_BCHW: As the network takes them, on its device.
        profile: The depth that it asks for, in letters, or the best within its budget; None where it asks for
            none.
        latency: On what the latencies of its budget were measured.
        returns_profile: Whether the answer says which profile it comes from.
    """

    images_BCHW: Tensor
    profile: str | None
    latency: str
    returns_profile: bool

    def answer(self, logits_BK: np.ndarray, profile: str) -> Any:  # noqa: ANN401
        """Return logits as the call wants them: alone, or in a dictionary that tells the profile."""
        if not self.returns_profile:
            return logits_BK
        return {"logits": logits_BK, "profile": profile, "latency": self.latency}
