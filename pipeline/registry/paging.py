"""All results of an MLflow search, which gives them in pages."""

from collections.abc import Callable, Iterator
from typing import Any


def pages(search: Callable[..., Any]) -> Iterator[Any]:
    """Yield what all pages of a search hold; it takes `page_token`."""
    token = None
    while True:
        page = search(page_token=token)
        yield from page
        token = page.token
        if not token:
            return
