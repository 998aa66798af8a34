"""What the gate lets through, and who is the champion in the end."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from pipeline.errors import RequestError
from pipeline.evaluation.table import LatencyConditions, ProfileResult, ProfileTable
from pipeline.gate_config import GateConfig
from pipeline.registry import tags
from pipeline.registry.aliases import CHAMPION
from pipeline.registry.gate import refusals
from pipeline.registry.promotion import RefusedError, promote, rollback
from pipeline.registry.store import connect

HERE = LatencyConditions("this one", 2, 1, "float32")


def table(full=0.9, base=0.8, *, macs=(100, 60), ms=(8.0, 5.0), conditions=HERE):
    rows = [
        ProfileResult(profile, True, top1, None, 1.0, cost, 10, time_ms, time_ms, is_pareto=True)
        for profile, top1, cost, time_ms in zip(("F", "T"), (full, base), macs, ms, strict=True)
    ]
    return ProfileTable(tuple(rows), num_images=100, latency=conditions)


RULES = GateConfig(tolerance=0.01, latency_tolerance=0.1)


@pytest.mark.parametrize(
    "better",
    [
        table(full=0.92),
        table(full=0.92, base=0.795),
        table(macs=(90, 60)),
        table(ms=(8.0, 4.0)),
        table(full=0.92, ms=(8.5, 5.0)),
        table(full=0.92, ms=(80.0, 50.0), conditions=replace(HERE, threads=1)),
        table(full=0.8, base=0.91, macs=(100, 60)),  # its base alone keeps up with both
    ],
    ids=[
        "more accurate",
        "within tolerance",
        "cheaper",
        "quicker",
        "a bit slower",
        "elsewhere",
        "one beats two",
    ],
)
def test_a_better_version_passes(better):
    assert refusals(better, table(), RULES) == []


@pytest.mark.parametrize(
    ("worse", "message"),
    [
        (
            table(full=0.88, base=0.95, macs=(100, 70)),
            "champion's T: some profile must keep up with its top-1 0.8000 at 0.0 MMACs",
        ),
        (table(full=0.95, base=0.78), "the nearest is T with 0.7800"),
        (table(full=0.95, macs=(100, 61)), "champion's T: .* none is as cheap"),
        (table(full=0.95, ms=(9.0, 5.6)), "champion's T: .* in 5.00 ms; the nearest is T .* 5.60 ms"),
        (
            table(),
            "better than the champion: .* none is by more than the tolerance 0.01; full 0.9000 against",
        ),
        (table(ms=(8.0, 4.6)), "better than the champion"),
    ],
    ids=["nothing as cheap and good", "base worse", "dearer", "slower", "equal", "a bit quicker"],
)
def test_a_version_that_is_not_better_is_refused_with_the_numbers(worse, message):
    assert any(re.search(message, problem) for problem in refusals(worse, table(), RULES))


def test_rules_hold_without_a_champion_too_and_are_all_named():
    rules = GateConfig(floors={"full": 0.95, "T": 0.7, "TF": 0.1}, max_gap=0.05)
    assert refusals(table(), None, rules) == [
        "floors.full: top-1 >= 0.95 must hold, got 0.9000",
        "floors.TF: a floor is for a profile that exists; there are full, base, F, T",
        "max_gap: full - base <= 0.05 must hold, got 0.9000 - 0.8000 = 0.1000",
    ]
    assert refusals(table(), None, GateConfig()) == []


def test_a_floor_of_what_is_no_profile_is_refused_with_the_job_file():
    with pytest.raises(ValueError, match="floors are of full, base, or letters T and F, got 'deep'"):
        GateConfig(floors={"deep": 0.9})


@pytest.fixture
def versions(client, tmp_path):
    """Creates versions of one model by their tables."""
    client.create_registered_model("net")

    def create(*tables, rules=RULES):
        return [
            client.create_model_version(
                "net",
                source=tmp_path.as_uri(),
                tags={tags.PROFILES: one.to_json(), tags.GATE: rules.model_dump_json()},
            )
            for one in tables
        ]

    return create


def champion_of(client):
    return int(client.get_registered_model("net").aliases.get(CHAMPION, 0))


def test_the_first_that_keeps_the_rules_is_the_champion_and_the_same_again_changes_nothing(client, versions):
    versions(table())
    assert promote(client, "models:/net/1").number == champion_of(client) == 1
    before = dict(client.get_model_version("net", 1).tags)
    assert promote(client, "models:/net/1").number == 1
    assert client.get_model_version("net", 1).tags == before


def test_better_is_accepted_worse_and_equal_are_refused(client, versions):
    versions(table(), table(full=0.95), table(full=0.8), table(full=0.95))
    promote(client, "models:/net/1")
    assert promote(client, "models:/net/2").number == champion_of(client) == 2
    for number, law in ((3, "champion's F"), (4, "better than the champion")):
        with pytest.raises(
            RefusedError, match=f"refuses models:/net/{number} against models:/net/2:\n  {law}"
        ):
            promote(client, f"models:/net/{number}")
        assert tags.PROMOTION not in client.get_model_version("net", number).tags
    assert champion_of(client) == 2


def test_a_refusal_says_what_its_numbers_are_counted_on(client, versions):
    versions(table(), replace(table(full=0.8), choices=("epoch", "statistics")))
    promote(client, "models:/net/1")
    with pytest.raises(
        RefusedError,
        match=r"\ntop-1 is on 100 validation images that also chose the epoch and the norm statistics\n",
    ):
        promote(client, "models:/net/2")


def test_an_override_is_recorded_with_its_reason(client, versions):
    versions(table(), table(full=0.8))
    promote(client, "models:/net/1")
    assert promote(client, "models:/net/2", override="licence of 1").number == champion_of(client) == 2
    recorded = json.loads(client.get_model_version("net", 2).tags[tags.PROMOTION])
    assert recorded == {"order": 2, "override": "licence of 1"}


def test_a_rollback_brings_the_one_before_and_the_next_promotion_does_not_undo_it(client, versions):
    versions(table(), table(full=0.99), table(full=0.95))
    promote(client, "models:/net/1")
    promote(client, "models:/net/2")
    former, now = rollback(client, "net", reason="wrong labels")
    assert (former.number, now.number, champion_of(client)) == (2, 1, 1)
    assert client.get_model_version("net", 2).tags[tags.ROLLBACK] == "wrong labels"
    assert promote(client, "models:/net/3").number == champion_of(client) == 3
    with pytest.raises(RefusedError, match=r"rolled back: .* must not come again \(wrong labels"):
        promote(client, "models:/net/2")
    assert promote(client, "models:/net/2", override="labels mended").number == champion_of(client) == 2


def test_the_only_champion_taken_back_leaves_none(client, versions):
    versions(table())
    promote(client, "models:/net/1")
    assert rollback(client, "net", reason="bad")[1] is None
    assert champion_of(client) == 0
    with pytest.raises(RequestError, match="a rollback takes a champion back, 'net' has none"):
        rollback(client, "net", reason="bad")


def test_a_version_that_is_not_there_cannot_be_promoted(client, versions):
    versions(table())
    with pytest.raises(RequestError, match="net has the versions 1 and the aliases"):
        promote(client, "models:/net/7")


def test_an_alias_that_somebody_moved_by_hand_is_set_right(client, versions):
    versions(table(), table(full=0.95))
    promote(client, "models:/net/2")
    client.set_registered_model_alias("net", CHAMPION, "1")
    promote(client, "models:/net/2")
    assert champion_of(client) == 2


def test_four_promoters_at_once_end_with_the_best_champion(client, versions):
    versions(*(table(full=full) for full in (0.91, 0.97, 0.93, 0.95)))

    def race(number):
        try:
            return promote(connect(client.tracking_uri), f"models:/net/{number}").number
        except RefusedError:
            return None

    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(race, (1, 2, 3, 4)))
    assert champion_of(client) == 2
    assert outcomes[1] == 2


def test_registration_makes_a_challenger_and_keeps_the_rules(client, register):
    for key in ("key-1", "key-2"):
        register(key=key, rules=RULES)
        client.delete_registered_model_alias("net", "challenger")
        register(key=key, rules=RULES)  # as after a kill before the alias was set
    assert int(client.get_registered_model("net").aliases["challenger"]) == 2
    assert GateConfig.model_validate_json(client.get_model_version("net", 1).tags[tags.GATE]) == RULES
