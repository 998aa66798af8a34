"""What a check finds, and carrying checks out: one that fails hides no other that can still be made."""

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from typing import Literal

from pipeline.registry.failures import brief

Verdict = Literal["passed", "warning", "failed", "skipped"]

CHECK_TIMEOUT_S = 12.0
"""The longest that a check may take; chosen: a healthy one takes less than a second or two."""


class Problem(Exception):
    """Something that keeps a job from its work.

    Args:
        detail: What was seen.
        fix: The way out.
    """

    def __init__(self, detail: str, fix: str) -> None:
        super().__init__(detail, fix)
        self.detail, self.fix = detail, fix


class Doubt(Problem):
    """Something that works and should be changed all the same."""


class NotNeededError(Exception):
    """There is nothing to look at; says why."""


@dataclass(frozen=True)
class Finding:
    """The outcome of a check.

    Attributes:
        check: Its name.
        verdict: Only `failed` keeps a job from its work.
        detail: What was seen.
        fix: The way out, where there is something to mend.
    """

    check: str
    verdict: Verdict
    detail: str
    fix: str = ""

    def to_dict(self) -> dict[str, str]:
        """Return plain values that JSON holds."""
        return asdict(self)


@dataclass(frozen=True)
class Check:
    """Something to look at.

    Attributes:
        name: Shown to the user; unique.
        look: Returns what it saw; raises Problem, Doubt or NotNeededError.
        needs: Names of the checks before it without whose success it can tell nothing new.
        timeout_s: The longest that it may take; None for `CHECK_TIMEOUT_S`.
    """

    name: str
    look: Callable[[], str]
    needs: tuple[str, ...] = ()
    timeout_s: float | None = None


def examine(checks: Iterable[Check]) -> Iterator[Finding]:
    """Carry out checks in their order and yield what each finds."""
    useless: set[str] = set()
    for check in checks:
        missing = [name for name in check.needs if name in useless]
        if missing:
            finding = Finding(check.name, "skipped", f"cannot be looked at without: {', '.join(missing)}")
        else:
            finding = _carry_out(check)
        if finding.verdict in ("failed", "skipped"):
            useless.add(check.name)
        yield finding


def _carry_out(check: Check) -> Finding:
    timeout_s = check.timeout_s or CHECK_TIMEOUT_S
    try:
        return Finding(check.name, "passed", _within(check.look, timeout_s))
    except Doubt as doubt:
        return Finding(check.name, "warning", doubt.detail, doubt.fix)
    except Problem as problem:
        return Finding(check.name, "failed", problem.detail, problem.fix)
    except NotNeededError as reason:
        return Finding(check.name, "skipped", str(reason))
    except TimeoutError:
        return Finding(
            check.name,
            "failed",
            f"no answer within {timeout_s:g} s",
            "see that the address is right, that no firewall swallows what is sent there, and that neither "
            "machine is too busy to answer",
        )
    except Exception as error:  # noqa: BLE001 (what nobody foresaw is a finding, too)
        return Finding(check.name, "failed", brief(error), "see what the service's own log says")


def _within(look: Callable[[], str], timeout_s: float) -> str:
    """Return what a look saw; the thread of one that hangs ends with the process."""
    outcome: Future[str] = Future()

    def run() -> None:
        try:
            outcome.set_result(look())
        except BaseException as error:  # noqa: BLE001 (raised again by the caller, from the future)
            outcome.set_exception(error)

    threading.Thread(target=run, name="doctor", daemon=True).start()
    return outcome.result(timeout_s)
