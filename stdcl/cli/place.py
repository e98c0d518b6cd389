"""Where the sweep is that a person means."""

from __future__ import annotations

from pathlib import Path

from stdcl.errors import UserError


def sweep_folder(given: str) -> Path:
    """Return a sweep's folder, by its path or by the sweep's name under the storage folder.

    Raises:
        UserError: there is none.
    """
    from stdcl.config.paths import storage_path

    folder = named_folder(given)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such sweep; `stdcl status` lists those of {storage_path()}")
    return folder.absolute()


def named_folder(given: str) -> Path:
    """Return the folder that a path or a sweep's name means; it need not be there."""
    from stdcl.config.paths import storage_path

    path = Path(given)
    return path if path.is_dir() else storage_path() / given
