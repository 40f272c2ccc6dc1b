"""Folders of local clusters, and the user that their nodes run as.

A node refuses to run as root. For root, everything lies where an unprivileged user can reach
it (root's own cache folder is closed to others), and the node runs as that user.
"""

from __future__ import annotations

import os
import pwd
import shutil
from pathlib import Path

from splade_os.errors import ClusterError
from splade_os.settings import cache_dir

_FOR_ROOT = Path("/var/cache/splade-os")
_UNPRIVILEGED = "nobody"


def base_dir() -> Path:
    """Where artifacts, distributions and clusters lie.

    ``SPLADE_OS_CACHE`` overrides it, for root as well.
    """
    if os.geteuid() != 0 or "SPLADE_OS_CACHE" in os.environ:
        base = cache_dir() / "local"
        base.mkdir(parents=True, exist_ok=True)
        return base
    _FOR_ROOT.mkdir(parents=True, exist_ok=True)
    return _FOR_ROOT


def node_user() -> str | None:
    """The user to start a node as; ``None`` = the present one."""
    return _UNPRIVILEGED if os.geteuid() == 0 else None


def hand_over(folder: Path) -> None:
    """Give a folder and all in it to the node's user, and check that he gets there.

    Raises:
        ClusterError: a parent folder is closed to him.
    """
    user = node_user()
    if user is None:
        return
    account = pwd.getpwnam(user)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)
    require_reachable(folder)


def require_reachable(folder: Path) -> None:
    """Check that the node's user can enter a folder, where that is not root.

    Raises:
        ClusterError: naming the folder that is closed.
    """
    if node_user() is None:
        return
    for parent in folder.resolve().parents:
        if not parent.stat().st_mode & 0o001:
            raise ClusterError(
                f"A node cannot run as root, and the user {_UNPRIVILEGED} cannot enter {parent}.",
                hint="Set SPLADE_OS_CACHE to a folder that every user can enter.",
            )


def open_to_all(folder: Path) -> None:
    """Let every user read (and enter) what is below ``folder``."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o055 if path.is_dir() else 0o044))


def free_bytes(folder: Path) -> int:
    """Space left on the disk of ``folder``."""
    return shutil.disk_usage(folder).free
