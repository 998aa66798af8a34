"""What all sections of the job file share: frozen, strict, unknown keys refused."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Integers = Annotated[tuple[int, ...], Field(strict=False)]


class Section(BaseModel):
    """A frozen part of the job file that refuses unknown keys, wrong types and infinite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def is_changed(self, key: str) -> bool:
        """Return whether a setting differs from its default; a resolved job file spells defaults out."""
        changed: bool = getattr(self, key) != type(self).model_fields[key].default
        return changed

    def refuse_without_effect(self, keys: dict[str, bool], reason: str) -> None:
        """Raise ValueError for the first setting that differs from its default and has no effect.

        Args:
            keys: Settings, and whether each has an effect.
            reason: When they have none, to end the message.
        """
        for key, has_effect in keys.items():
            if not has_effect and self.is_changed(key):
                raise ValueError(f"{key} has no effect {reason}; leave it out")
