"""Errors that are the user's to mend: the command line prints their text alone, without a traceback."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """Bad input. The message says what was wrong, where, what is allowed, and the nearest right spelling."""


def nearest(word: str, allowed: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the closest allowed spelling, or an empty string."""
    found = get_close_matches(word, list(allowed), n=1, cutoff=0.6)
    return f" (did you mean '{found[0]}'?)" if found else ""
