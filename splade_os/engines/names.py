"""Names of indices and aliases: what an engine takes, and what would mean something else."""

from __future__ import annotations

import re

from splade_os.errors import SettingsError

_NEVER = re.compile(r'[\\/?"<>| #\x00-\x1f]')
_NOT_ONE = re.compile(r"[*,:]")  # several indices, or one of another cluster
_LONGEST = 255  # bytes


def check_name(name: str, *, one: bool = True) -> None:
    """Whether a name can be that of an index.

    Args:
        name: of an index or an alias.
        one: it has to name one index, as in whatever writes or deletes; else ``a,b`` and ``a*``
            are names too.

    Raises:
        SettingsError: it cannot.
    """
    fault = _fault(name, one)
    if fault:
        raise SettingsError(
            f"{name!r} cannot be the name of an index: {fault}.",
            hint="A name has lower-case letters, digits, - _ . and +, and begins with a letter or "
            "a digit: --index NAME.",
        )


def _fault(name: str, one: bool) -> str | None:
    found = _NEVER.search(name)
    if found:
        return f"it holds {found[0]!r}"
    if not name or name in (".", ".."):
        return "it names nothing"
    if not one:
        return None
    found = _NOT_ONE.search(name)
    if found:
        return f"with {found[0]!r} it names others"
    if name[0] in "-_+":
        return f"it begins with {name[0]!r}"
    if name != name.lower():
        return "it has upper-case letters"
    if len(name.encode("utf-8", "surrogatepass")) > _LONGEST:
        return f"it is longer than {_LONGEST} bytes"
    return None
