"""Keeps user names and passwords out of everything that is printed or logged."""

import re

_USERINFO = re.compile(r"(?<=://)[^\s/?#]*@")
_SECRET_QUERY = re.compile(r"(?<=[?&])((?:\w*(?:password|passwd|token|secret))=)[^&\s'\"]*", re.IGNORECASE)


def mask_credentials(text: str) -> str:
    """Return a text in which no URI shows `user:password@` or a password among its arguments."""
    return _SECRET_QUERY.sub(r"\1***", _USERINFO.sub("***@", text))
