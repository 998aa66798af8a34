"""The pages that users read, and what stands in them."""

import re
import shlex
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
RESULTS = ROOT / "tests" / "benchmarks" / "RESULTS.md"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md")), RESULTS]

_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
_HERE_DOCUMENT = re.compile(r"(\S+ \S*) *<<'?(\w+)'?\n(.*?)^\2$", flags=re.DOTALL | re.MULTILINE)


def name_of(page):
    return str(page.relative_to(ROOT))


def blocks(text, *languages):
    """Return the code of a page in these languages, in order."""
    return [found[2] for found in _FENCED.finditer(text) if found[1] in languages]


def python_code(text):
    """Return the Python of a page, that which a shell hands to `python -` included."""
    handed = [found for code in blocks(text, "bash") for found in _HERE_DOCUMENT.finditer(code)]
    return blocks(text, "python") + [found[3] for found in handed if found[1] == "python -"]


def prose(text):
    return _FENCED.sub("", text)


def links(page):
    """Return where a page leads to on this disk: relative paths and anchors."""
    return re.findall(r"\]\(((?!http)[^)\s]+)\)", prose(page.read_text()))


def anchors(page):
    """Return the anchors of a page's headings as GitHub makes them."""
    seen = Counter()
    for heading in re.findall(r"^#+ (.*)$", prose(page.read_text()), flags=re.MULTILINE):
        slug = re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-")
        yield f"{slug}-{seen[slug]}" if seen[slug] else slug
        seen[slug] += 1


def shell_calls(code, program):
    """Return the arguments of every call of a program in shell code."""
    joined = _HERE_DOCUMENT.sub("", code.replace("\\\n", " "))
    return [call[1:] for line in joined.splitlines() for call in _commands(line) if call[:1] == [program]]


def _commands(line):
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|<>()")
    lexer.whitespace_split = True
    command = []
    for token in lexer:
        if set(token) <= set(";&|<>()"):
            yield command
            command = []
        else:
            command.append(token)
    yield command
