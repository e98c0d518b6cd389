"""Where data and results are, and how a path in a configuration or a variable is read."""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Mapping
from pathlib import Path

from stdcl.errors import UserError

SINGLE_RUNS = "train"
"""Folder under the storage folder, and W&B group, of the runs that belong to no sweep; no sweep can have this name."""

_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})")


def variable(name: str, environment: Mapping[str, str] = os.environ) -> str | None:
    """Return a variable of the environment; one that is empty counts as not set."""
    return environment.get(name, "").strip() or None


def expand(text: str, what: str, environment: Mapping[str, str] = os.environ) -> Path:
    """Return the path that ``text`` means: ``$NAME`` and ``${NAME}`` replaced, then ``~`` and ``~user``.

    Args:
        text: as it was written.
        what: where, for errors.
        environment: the variables.

    Raises:
        UserError: a variable is not set, or no home folder is known.
    """

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        found = variable(name, environment)
        if found is None:
            raise UserError(f"{what} is '{text}', but the variable {name} is not set, or empty")
        return found

    path = Path(_VARIABLE.sub(value, text))
    if "\0" in text:
        raise UserError(f"{what}: a path cannot hold the character NUL")
    user = path.parts[0] if path.parts and path.parts[0].startswith("~") else None
    if user is None:
        return path
    if user == "~" and (home := variable("HOME", environment)) is not None:
        return Path(home, *path.parts[1:])
    try:
        account = pwd.getpwuid(os.getuid()) if user == "~" else pwd.getpwnam(user[1:])
        return Path(account.pw_dir, *path.parts[1:])
    except KeyError:
        known = "HOME is not set, and this account has no entry of its own" if user == "~" else "there is no such user"
        raise UserError(f"{what} is '{text}': no home folder is known ({known}); give the whole path") from None


def data_places(path: str, environment: Mapping[str, str] = os.environ, *, what: str = "data.path") -> list[Path]:
    """Return where prepared data, or other data, can be, in the order of looking; the first is where they are made.

    An absolute path stands for itself; one that begins with ``./`` or ``../`` is relative to the current folder; any
    other is looked for under $STDCL_DATA, where that is set, then under the current folder.

    Args:
        path: as it was written.
        environment: the variables.
        what: where, for errors.

    Raises:
        UserError: as :func:`expand`.
    """
    given = expand(path, what, environment)
    if given.is_absolute():
        return [given]
    here = given.absolute()
    root = variable("STDCL_DATA", environment)
    if root is None or path.split("/", 1)[0] in (".", ".."):
        return [here]
    there = (expand(root, "$STDCL_DATA", environment) / given).absolute()
    return [there] if there == here else [there, here]


def data_path(path: str, environment: Mapping[str, str] = os.environ, *, what: str = "data.path") -> Path:
    """Return the first of :func:`data_places` that exists; the first of all if none does."""
    places = data_places(path, environment, what=what)
    return next((place for place in places if place.exists()), places[0])


def data_root(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder under which prepared data are looked for by name: $STDCL_DATA, else the current folder.

    Raises:
        UserError: as :func:`expand`.
    """
    root = variable("STDCL_DATA", environment)
    return (Path() if root is None else expand(root, "$STDCL_DATA", environment)).absolute()


def also_looked_at(place: Path, environment: Mapping[str, str] = os.environ) -> list[Path]:
    """Return the other places of :func:`data_places` that were looked at before ``place`` was settled on."""
    root = variable("STDCL_DATA", environment)
    if root is None:
        return []
    folder = expand(root, "$STDCL_DATA", environment).absolute()
    if not place.is_relative_to(folder):
        return []
    return [other for other in [Path.cwd() / place.relative_to(folder)] if other != place]


def storage_path(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of all results: $STDCL_STORAGE, else ``./runs``. On a cluster every node must see it.

    Raises:
        UserError: as :func:`expand`; or it is an address, such as one of object storage.
    """
    given = variable("STDCL_STORAGE", environment) or "runs"
    if "://" in given:
        raise UserError(
            f"STDCL_STORAGE={given}: a folder is needed that every machine mounts under the same path, on a POSIX "
            "file system with locks (NFS 4, Lustre; in clouds EFS, Filestore, FSx, Azure Files). Object storage does "
            "not work"
        )
    return expand(given, "$STDCL_STORAGE", environment).absolute()
