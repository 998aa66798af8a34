"""Who is the champion: a fold over what versions say of themselves, so that whoever computes it agrees.

The alias only shows the outcome (see `aliases`): promotions and rollbacks are tags of the versions, and
whoever writes one reads them all again afterwards and sets the alias, until it finds it set.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass

from mlflow.entities.model_registry import ModelVersion
from mlflow.tracking import MlflowClient

from pipeline.errors import JobError, RequestError
from pipeline.evaluation.table import ProfileTable
from pipeline.gate_config import GateConfig

from . import tags
from .aliases import CHAMPION, settle_alias
from .failures import tracking_failures
from .gate import refusals
from .versions import all_versions, require_version, table_of


class RefusedError(JobError):
    """The gate lets a version not become the champion."""


@dataclass(frozen=True)
class Candidate:
    """A version as the gate sees it.

    Attributes:
        name: Of the registered model.
        number: Of the version.
        table: Its profile table.
        rules: Of the job that registered it.
        order: Place among promotions, from 1; None if nobody has promoted it.
        override: Why it is promoted in spite of the rules, if it is.
        rollback: Why it was taken back, if it was.
    """

    name: str
    number: int
    table: ProfileTable | None
    rules: GateConfig
    order: int | None = None
    override: str | None = None
    rollback: str | None = None

    @classmethod
    def read(cls, version: ModelVersion) -> "Candidate":
        """Return what a version's tags say."""
        promotion = json.loads(version.tags.get(tags.PROMOTION, "{}"))
        return cls(
            version.name,
            int(version.version),
            table_of(version),
            GateConfig.model_validate_json(version.tags.get(tags.GATE, "{}")),
            promotion.get("order"),
            promotion.get("override"),
            version.tags.get(tags.ROLLBACK),
        )

    @property
    def uri(self) -> str:
        """`models:/NAME/VERSION`."""
        return f"models:/{self.name}/{self.number}"


def champions(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Return who has been the champion, and is it at the end of the list.

    In the order of their promotions, each replaces the one before if its rules let it, or somebody overrode
    them. Who was rolled back counts as never promoted.
    """
    found: list[Candidate] = []
    promoted = [one for one in candidates if one.order is not None and one.rollback is None]
    for candidate in sorted(promoted, key=lambda one: (one.order, one.number)):
        if candidate.override is not None or not _refusals(candidate, found[-1] if found else None):
            found.append(candidate)
    return found


@tracking_failures("promote a version")
def promote(client: MlflowClient, model_uri: str, *, override: str | None = None) -> Candidate:
    """Make a version the champion, if its rules let it.

    Args:
        client: The store.
        model_uri: `models:/NAME/VERSION` or `models:/NAME@ALIAS`.
        override: Why it shall be the champion in spite of the rules; recorded with the version.

    Returns:
        The champion.

    Raises:
        RequestError: If there is no such version.
        RefusedError: If a rule is broken; with the rules and the numbers.
        JobError: If the store fails.
    """
    address = require_version(client, model_uri)
    candidates = _candidates(client, address.name)
    candidate, champion = candidates[address.version], _last(champions(candidates.values()))
    if champion is not None and champion.number == candidate.number and override is None:
        return _settle(client, address.name) or champion
    if override is None:
        _require(candidate, champion)
    order = 1 + max((one.order or 0 for one in candidates.values()), default=0)
    promotion = json.dumps({"order": order} | ({} if override is None else {"override": override}))
    number = str(candidate.number)
    client.set_model_version_tag(address.name, number, tags.PROMOTION, promotion)
    if candidate.rollback is not None:
        client.delete_model_version_tag(address.name, number, tags.ROLLBACK)
    champion = _settle(client, address.name)
    if override is None and champion is not None and champion.number != candidate.number:
        _give_way(client, candidate, champion)
    return champion or candidate


@tracking_failures("roll a promotion back")
def rollback(client: MlflowClient, name: str, *, reason: str) -> tuple[Candidate, Candidate | None]:
    """Take the champion back; the next promotion does not bring it again, unless it overrides.

    Args:
        client: The store.
        name: Of the registered model.
        reason: Recorded with the version.

    Returns:
        Who was the champion, and who is now, if anybody.

    Raises:
        RequestError: If there is no champion.
        JobError: If the store fails.
    """
    champion = _last(champions(_candidates(client, name).values()))
    if champion is None:
        raise RequestError(f"a rollback takes a champion back, {name!r} has none; promote a version first")
    client.set_model_version_tag(name, str(champion.number), tags.ROLLBACK, reason)
    return champion, _settle(client, name)


def _settle(client: MlflowClient, name: str) -> Candidate | None:
    """Let the alias show the champion; returns it."""

    def find() -> int | None:
        champion = _last(champions(_candidates(client, name).values()))
        return champion.number if champion else None

    number = settle_alias(client, name, CHAMPION, find)
    return None if number is None else _candidates(client, name)[number]


def _candidates(client: MlflowClient, name: str) -> dict[int, Candidate]:
    found = map(Candidate.read, all_versions(client, name))
    return {candidate.number: candidate for candidate in found}


def _give_way(client: MlflowClient, candidate: Candidate, champion: Candidate) -> None:
    """Withdraw a promotion that one made at the same time came before, if it is refused for that."""
    accepted = champions(_candidates(client, candidate.name).values())
    if candidate.number in {one.number for one in accepted}:
        return
    client.delete_model_version_tag(candidate.name, str(candidate.number), tags.PROMOTION)
    _require(candidate, champion)


def _last(found: list[Candidate]) -> Candidate | None:
    return found[-1] if found else None


def _refusals(candidate: Candidate, champion: Candidate | None) -> list[str]:
    if candidate.table is None:
        return ["a version must hold a profile table to be promoted, this one does not"]
    return refusals(candidate.table, champion.table if champion else None, candidate.rules)


def _require(candidate: Candidate, champion: Candidate | None) -> None:
    """Raise RefusedError if a version may not replace the champion."""
    problems = _refusals(candidate, champion)
    if candidate.rollback is not None:
        problems.insert(0, f"rolled back: a version that was must not come again ({candidate.rollback})")
    if problems:
        against = f" against {champion.uri}" if champion else ""
        counted = f"top-1 is on {candidate.table.images}\n" if candidate.table else ""
        listed = "\n".join(f"  {problem}" for problem in problems)
        raise RefusedError(
            f"the gate refuses {candidate.uri}{against}:\n{listed}\n"
            f"{counted}train a better one, change the job's registry.gate, or override with a reason"
        )
