"""Folders of local clusters, and the user that their nodes run as.

A node refuses to run as root. For root, everything lies where an unprivileged user can reach
it (root's own cache folder is closed to others), and the node runs as that user.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import stat
from pathlib import Path

from splade_os.errors import ClusterError
from splade_os.settings import cache_dir

_FOR_ROOT = Path("/var/cache/splade-os")
_UNPRIVILEGED = "nobody"
_UNUSABLE = re.compile(r"[\s\"'`$;&|<>()*?\[\]{}!#,\\]")


def base_dir() -> Path:
    """Where artifacts, distributions and clusters lie.

    ``SPLADE_OS_CACHE`` overrides it, for root as well.
    """
    if os.geteuid() != 0 or "SPLADE_OS_CACHE" in os.environ:
        base = cache_dir() / "local"
        base.mkdir(parents=True, exist_ok=True)
        if node_user() is not None:  # he has to pass, and need not see what else there is
            for folder in (base, base.parent):
                folder.chmod(folder.stat().st_mode | 0o011)
        return base
    _FOR_ROOT.mkdir(parents=True, exist_ok=True)
    return _FOR_ROOT


def node_user() -> str | None:
    """The user to start a node as; ``None`` = the present one."""
    return _UNPRIVILEGED if os.geteuid() == 0 else None


def keep(folder: Path) -> None:
    """Make a folder that is ours, whoever had it: the node's user may pass, and change nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    if node_user() is None:
        folder.chmod(0o700)
        return
    os.chown(folder, os.geteuid(), os.getegid(), follow_symlinks=False)
    folder.chmod(0o711)


def hand_over(folder: Path) -> None:
    """Make a folder that is the node's user's alone, and check that he gets there. What he has
    in it already is his; nothing in it is touched, where he could have put a link.

    Raises:
        ClusterError: a parent folder is closed to him.
    """
    if folder.is_symlink():
        folder.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    user = node_user()
    if user is None:
        return
    account = pwd.getpwnam(user)
    os.chown(folder, account.pw_uid, account.pw_gid, follow_symlinks=False)
    require_reachable(folder)


def let_read(folder: Path) -> None:
    """Let the node's user read what is in a folder of ours, him alone and no more than that."""
    user = node_user()
    group = -1 if user is None else pwd.getpwnam(user).pw_gid
    for path in (folder, *folder.rglob("*")):
        os.chown(path, -1, group, follow_symlinks=False)
        if not path.is_symlink():
            path.chmod(0o750 if path.is_dir() else 0o640)


def require_usable(folder: Path) -> None:
    """Check that the start scripts and the JVM can take a folder's name.

    Raises:
        ClusterError: it holds a space or another character that they take for their own.
    """
    wrong = _UNUSABLE.search(str(folder))
    if wrong is not None:
        raise ClusterError(
            f"The folder {str(folder)!r} has {wrong[0]!r} in its name, which the start scripts of "
            "a node and its JVM do not take.",
            hint="Set SPLADE_OS_CACHE to a folder without spaces and quotes.",
        )


def is_trusted(folder: Path) -> bool:
    """Whether nobody but this user and root can have put there what is in a folder."""
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return False
    writable = stat.S_IWGRP | stat.S_IWOTH
    return found.st_uid in (0, os.geteuid()) and not found.st_mode & writable


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
