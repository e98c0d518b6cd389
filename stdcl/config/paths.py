"""Where data and results lie."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def data_path(path: str, environment: Mapping[str, str] = os.environ) -> Path:
    """Return the store's folder: absolute as given, else under $STDCL_DATA, else under the current folder."""
    given = Path(path).expanduser()
    if given.is_absolute():
        return given
    return (Path(environment.get("STDCL_DATA", ".")).expanduser() / given).absolute()


def storage_path(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of all results: $STDCL_STORAGE, else ``./runs``. On a cluster every node must see it."""
    return Path(environment.get("STDCL_STORAGE", "runs")).expanduser().absolute()
