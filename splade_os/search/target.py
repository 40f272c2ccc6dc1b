"""Which index a client is for."""

from __future__ import annotations

from splade_os.errors import SettingsError
from splade_os.settings import DEFAULT_URL, Settings


def need_index(settings: Settings, url: str | None) -> str:
    """The index of the settings.

    Args:
        url: as the caller gave it.

    Raises:
        SettingsError: none is given; where the URL looks like one, says so.
    """
    if settings.index is not None:
        return settings.index
    if url is not None and ":" not in url:
        raise SettingsError(
            f"{url!r} stands where the URL comes, and no index is given.",
            hint=f"Is it the index? Then write ({DEFAULT_URL!r}, {url!r}), the URL "
            f"first; or index={url!r} alone, for the URL of the settings.",
        )
    raise SettingsError("Which index? None is given.", hint="Set index= or --index.")
