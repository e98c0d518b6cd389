"""A home folder and a name for accounts that have neither, as a number in a container."""

from __future__ import annotations

import os
import tempfile
from collections.abc import MutableMapping
from pathlib import Path


def provide_account(environment: MutableMapping[str, str] = os.environ) -> str | None:
    """Set HOME, and a user's name, where neither the environment nor the list of accounts has them.

    Ray, PyTorch and W&B ask for both when they are imported.

    Returns:
        The new home folder; None where there is one.
    """
    import pwd

    number = os.getuid()
    try:
        account: pwd.struct_passwd | None = pwd.getpwuid(number)
    except KeyError:
        account = None
    if account is None and not any(environment.get(name) for name in ("LOGNAME", "USER")):
        environment["USER"] = f"user-{number}"
    if environment.get("HOME") or (account is not None and account.pw_dir):
        return None
    home = Path(tempfile.gettempdir()) / f"stdcl-home-{number}"
    home.mkdir(mode=0o700, exist_ok=True)
    environment["HOME"] = str(home)
    return str(home)
