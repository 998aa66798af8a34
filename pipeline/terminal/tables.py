"""Tables of text cells, as a console prints them."""

from collections.abc import Container, Iterable, Sequence

from rich.console import Console
from rich.table import Table

from pipeline.evaluation.table import ProfileTable


def print_profiles(console: Console, table: ProfileTable, *, title: str) -> None:
    """Print a profile table with the conditions of its latencies."""
    caption = (
        f"{table.conditions}\n"
        "● Pareto: no other profile is at least as accurate and as cheap, and better in one"
    )
    print_table(console, table.columns(), table.rows(), title=title, caption=caption)


def print_table(
    console: Console,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    title: str,
    caption: str = "",
    prose: Container[str] = (),
) -> None:
    """Print a table of text cells: the first two columns and those with prose, in lines, to the left."""
    table = Table(title=title, caption=caption or None, title_justify="left", caption_justify="left")
    for index, column in enumerate(columns):
        is_prose = column in prose
        table.add_column(column, justify="left" if index < 2 or is_prose else "right", no_wrap=not is_prose)
    for row in rows:
        table.add_row(*row)
    console.print(table)
