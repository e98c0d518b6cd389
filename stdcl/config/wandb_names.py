"""The names that W&B accepts, checked before anything is launched."""

from __future__ import annotations

MAX_LENGTH = 128
FORBIDDEN = "/\\#?%:"


def fault(name: str, what: str) -> str:
    """Return why W&B would refuse ``name``, or an empty string.

    Args:
        name: of a project or an entity (a user or team).
        what: ``project`` or ``entity``.
    """
    found = sorted({character for character in name if character in FORBIDDEN or not character.isprintable()})
    if found:
        shown = " ".join(repr(character) for character in found)
        hint = "; the part before the slash belongs under tracking.entity" if "/" in found and what == "project" else ""
        return f"a W&B {what} may not contain {shown}{hint}"
    if len(name) > MAX_LENGTH:
        return f"a W&B {what} has at most {MAX_LENGTH} characters, this one {len(name)}"
    if not name.strip():
        return f"a W&B {what} may not be empty"
    return ""
