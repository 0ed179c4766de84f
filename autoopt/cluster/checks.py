"""What a check has found, and what would mend it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How it stands."""

    OK = "ok"
    WARNING = "warning"
    """It works, but not as well as it could, or not for everything."""
    PROBLEM = "problem"
    """Jobs would fail, or measure what cannot be compared, or be open to others."""


@dataclass(frozen=True)
class Check:
    """One line of the doctor's."""

    what: str
    """What was looked at."""
    verdict: Verdict
    found: str
    remedy: str = ""
    """What to do; empty where all is well."""


def ok(what: str, found: str) -> Check:
    """All is well."""
    return Check(what, Verdict.OK, found)


def warning(what: str, found: str, remedy: str) -> Check:
    """It could be better."""
    return Check(what, Verdict.WARNING, found, remedy)


def problem(what: str, found: str, remedy: str = "") -> Check:
    """It must be mended; a remedy may be part of what was found."""
    return Check(what, Verdict.PROBLEM, found, remedy)
