"""URLs that may hold a user name and a password: these are taken out before anything is shown.

A URL is printed and written down, a secret is not. Where it is not certain what of a text is the
secret, nothing of the text is repeated.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import unquote, urlsplit, urlunsplit

from splade_os.errors import SettingsError

_CONTROL = re.compile(r"[\x00-\x20\x7f]")  # urlsplit drops some of them in silence
_HTTP = re.compile(r"https?://", re.IGNORECASE)
HIDDEN = "***"


def split_user(url: str) -> tuple[str, str | None, str | None]:
    """``https://user:password@host`` → the URL without them, user name, password.

    Raises:
        SettingsError: it cannot be told where the password ends.
    """
    hint = (
        "In a URL the characters / ? # @ : % and spaces of a user name or password are "
        "percent-encoded (%2F %3F %23 %40 %3A %25 %20). Better: take them out of the URL, and set "
        "SPLADE_OS_USERNAME and SPLADE_OS_PASSWORD."
    )
    try:
        parts = urlsplit(url)
        _ = parts.port  # a port that is no number may be a password
    except ValueError:
        parts = None
    if parts is None or "@" in "".join(parts[2:]) or _CONTROL.search(url):
        raise SettingsError("The URL (not repeated here) is none that can be used.", hint=hint)
    user, at, place = parts.netloc.rpartition("@")
    if not at:
        return url, None, None
    clean = urlunsplit(parts._replace(netloc=place))
    name, colon, password = user.partition(":")
    return clean, unquote(name) if user else None, unquote(password) if colon else None


def nodes(url: str) -> tuple[list[str], str | None, str | None]:
    """The URLs of all nodes of a cluster (commas between), without user and password, and these.

    Raises:
        SettingsError: they are not those of one cluster, or name several users.
    """
    parts = [split_user(part.strip()) for part in re.split(r",(?=\s*https?://)", url)]
    hosts = [host.rstrip("/") for host, _, _ in parts]
    if len({urlsplit(host).scheme for host in hosts}) > 1 or any("," in host for host in hosts):
        raise SettingsError(
            f"{', '.join(hosts)} are not the URLs of the nodes of one cluster.",
            hint="Like https://one:9200,https://two:9200: each in full, all http or all https.",
        )
    users = {(user, secret) for _, user, secret in parts if user is not None}
    if len(users) > 1:
        raise SettingsError(
            f"The URLs of {', '.join(hosts)} name different users or passwords.",
            hint="Take them out, and set SPLADE_OS_USERNAME and SPLADE_OS_PASSWORD.",
        )
    return (hosts, *(users.pop() if users else (None, None)))


def is_cluster(url: str) -> bool:
    """Whether it is ``http://`` or ``https://``."""
    return bool(_HTTP.match(url.strip()))


def in_clear_text(url: str) -> bool:
    """Whether what is sent there can be read on the way: ``http://`` to another machine."""
    parts = urlsplit(url)
    return parts.scheme == "http" and not _is_loopback(parts.hostname or "")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def shown(text: str) -> str:
    """A URL for messages and records: whatever may be a secret in it is ``***``, that is all in
    front of its last ``@``, and the query of ``http`` (signatures, tokens). Never fails."""
    scheme, colon, rest = text.partition("://")
    if not colon:
        return text
    _, at, place = rest.rpartition("@")
    if _HTTP.match(text):
        for mark in "?#":
            before, found, _ = place.partition(mark)
            place = f"{before}{mark}{HIDDEN}" if found else before
    return f"{scheme}://{HIDDEN + at if at else ''}{place}"


def without_secrets(message: str, url: str) -> str:
    """A message of somebody else about a URL, without what `shown` hides of it."""
    if shown(url) == url:
        return message
    rest = url.partition("://")[2]
    user, _, place = rest.rpartition("@")
    secrets = {user, place.partition("?")[2], *user.split(":", 1)}
    found = sorted(secrets | {unquote(part) for part in secrets}, key=len, reverse=True)
    for text in (url, *filter(None, found)):
        message = message.replace(text, shown(url) if text == url else HIDDEN)
    return message
