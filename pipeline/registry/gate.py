"""Whether a version may become the champion: pure functions of profile tables and rules."""

from pipeline.evaluation.table import ProfileResult, ProfileTable
from pipeline.gate_config import GateConfig


def refusals(table: ProfileTable, champion: ProfileTable | None, rules: GateConfig) -> list[str]:
    """Return why a version may not become the champion, one message a rule; nothing if it may.

    For each of the champion's profiles the version needs one that is as accurate, as cheap and, where both
    were measured under like conditions, as quick, each within its tolerance. One of them has to be better
    by more than that.

    Args:
        table: Of the version.
        champion: Of the champion; None if there is none.
        rules: Of the version's job.
    """
    problems = [*_below_floors(table, rules), *_too_far_apart(table, rules)]
    if champion is None:
        return problems
    times = table.latency == champion.latency
    for row in champion.results:
        if not any(_keeps_up(new, row, rules, times=times) for new in table.results):
            problems.append(_nothing_beats(row, table, times=times))
    if not problems and not any(
        _keeps_up(new, row, rules, times=times) and _is_better(new, row, rules, times=times)
        for new in table.results
        for row in champion.results
    ):
        full, base = table.full, table.base
        problems.append(
            "better than the champion: some profile must be, none is by more than the tolerance "
            f"{rules.tolerance:g}; full {full.top1:.4f} against {champion.full.top1:.4f}, base "
            f"{base.top1:.4f} against {champion.base.top1:.4f}"
        )
    return problems


def _below_floors(table: ProfileTable, rules: GateConfig) -> list[str]:
    rows = {row.profile: row for row in table.results} | {"full": table.full, "base": table.base}
    problems = []
    for profile, floor in rules.floors.items():
        if profile not in rows:
            problems.append(
                f"floors.{profile}: a floor is for a profile that exists; there are full, base, "
                f"{', '.join(row.profile for row in table.results)}"
            )
        elif rows[profile].top1 < floor:
            problems.append(f"floors.{profile}: top-1 >= {floor:g} must hold, got {rows[profile].top1:.4f}")
    return problems


def _too_far_apart(table: ProfileTable, rules: GateConfig) -> list[str]:
    gap = table.full.top1 - table.base.top1
    if rules.max_gap is None or gap <= rules.max_gap:
        return []
    return [
        f"max_gap: full - base <= {rules.max_gap:g} must hold, got {table.full.top1:.4f} - "
        f"{table.base.top1:.4f} = {gap:.4f}"
    ]


def _keeps_up(new: ProfileResult, old: ProfileResult, rules: GateConfig, *, times: bool) -> bool:
    slowest = old.latency_p50_ms * (1 + rules.latency_tolerance)
    return (
        new.top1 >= old.top1 - rules.tolerance
        and new.macs <= old.macs
        and (not times or new.latency_p50_ms <= slowest)
    )


def _is_better(new: ProfileResult, old: ProfileResult, rules: GateConfig, *, times: bool) -> bool:
    quick = old.latency_p50_ms * (1 - rules.latency_tolerance)
    return (
        new.top1 > old.top1 + rules.tolerance or new.macs < old.macs or (times and new.latency_p50_ms < quick)
    )


def _nothing_beats(row: ProfileResult, table: ProfileTable, *, times: bool) -> str:
    as_cheap = [new for new in table.results if new.macs <= row.macs]
    best = max(as_cheap, key=lambda new: new.top1, default=None)
    quick = f" in {row.latency_p50_ms:.2f} ms" if times else ""
    nearest = (
        "none is as cheap"
        if best is None
        else f"the nearest is {best.profile} with {best.top1:.4f}, {best.macs / 1e6:.1f} MMACs"
        + (f", {best.latency_p50_ms:.2f} ms" if times else "")
    )
    return (
        f"champion's {row.profile}: some profile must keep up with its top-1 {row.top1:.4f} at "
        f"{row.macs / 1e6:.1f} MMACs{quick}; {nearest}"
    )
