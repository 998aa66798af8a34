"""The profile table as the text of a model version's page, which shows neither metrics nor files."""

from pipeline.evaluation.table import ProfileTable

MAX_DESCRIPTION = 5000  # PostgreSQL's column


def describe(table: ProfileTable, *, limit: int = MAX_DESCRIPTION) -> str:
    """Return the profile table as Markdown of at most `limit` characters.

    A table that is too long loses rows, never `full` and `base`, and those of the Pareto front last; it then
    says so.
    """
    header, rule, *rows, blank, note = table.to_markdown().split("\n")
    order = _by_importance(table)
    for count in range(len(order), 1, -1):
        kept = [rows[index] for index in sorted(order[:count])]
        left_out = (
            [] if count == len(rows) else ["", f"{count} of {len(rows)} profiles; profiles.json has all."]
        )
        text = "\n".join([header, rule, *kept, blank, note, *left_out])
        if len(text) <= limit:
            break
    return text[:limit]


def _by_importance(table: ProfileTable) -> list[int]:
    """Return the rows' numbers: `full`, `base`, the Pareto front, the others."""
    last = len(table.results) - 1
    inner = sorted(range(1, last), key=lambda row: not table.results[row].is_pareto)
    return [0, last, *inner]
