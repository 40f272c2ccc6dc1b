"""What makes an ``https`` connection trusted, and what the server may ask of the client."""

from __future__ import annotations

import hashlib
import re
import socket
import ssl
import warnings
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from splade_os.engines.connection.credentials import Secret, plain
from splade_os.engines.rest.failures import no_connection
from splade_os.errors import SettingsError

_SOURCE_LINE = re.compile(r"^\[SSL\] | \(_ssl\.c:\d+\)$")  # of the ssl module
_SHA256 = re.compile(r"[0-9a-f]{64}")


def tls_context(
    url: str,
    *,
    ca_certs: str | Path | None,
    verify_certs: bool,
    fingerprint: str | None,
    client_cert: str | Path | None,
    client_key: str | Path | None,
    client_key_password: Secret,
    timeout: float,
) -> ssl.SSLContext | None:
    """For the connections to one URL; `client_options` tells what each argument is. ``None`` for
    a URL without TLS.

    With a ``fingerprint`` the server is asked once for its certificates, and the one that has
    the fingerprint becomes the only one that is trusted.

    Raises:
        SettingsError: a file cannot be used, or arguments contradict each other.
        EngineUnavailableError: no certificate of the server has the fingerprint.
    """
    for name, value in (("fingerprint", fingerprint), ("client certificate", client_cert)):
        if value is not None and not url.startswith("https:"):
            raise SettingsError(
                f"A {name} is given, and {url} is no https URL.",
                hint=f"Write https{url.removeprefix('http')}, or leave the {name} out.",
            )
    if not url.startswith("https:"):
        return None
    if fingerprint is not None and (ca_certs is not None or not verify_certs):
        raise SettingsError(
            "A fingerprint says by itself what is trusted.",
            hint="Leave out --ca-certs and --insecure, or the fingerprint.",
        )
    if client_key is not None and client_cert is None:
        raise SettingsError(
            "A client key is given, and no client certificate.", hint="Set --client-cert."
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if client_cert is not None:
        _introduce(context, client_cert, client_key, client_key_password)
    if fingerprint is not None:
        _pin(context, url, _normal(fingerprint), timeout)
    elif verify_certs:
        _trust(context, ca_certs)
    else:
        _trust_anybody(context, url)
    return context


def needs_password(key: str | Path) -> bool:
    """Whether a PEM file holds an encrypted key."""
    try:
        return b"ENCRYPTED" in Path(key).read_bytes()
    except OSError:
        return False


def _introduce(
    context: ssl.SSLContext, cert: str | Path, key: str | Path | None, password: Secret
) -> None:
    if password is None and needs_password(key or cert):  # OpenSSL would ask the terminal itself
        raise SettingsError(
            f"The client key {key or cert} is encrypted, and no password is given.",
            hint="Set SPLADE_OS_CLIENT_KEY_PASSWORD, also to @FILE. On a terminal the command "
            "line asks.",
        )
    try:
        context.load_cert_chain(cert, key, plain(password))
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"The client certificate {cert}{f' with the key {key}' if key else ''} cannot be "
            f"used: {_why(error)}.",
            hint="Both are PEM files; one may hold both. Check the files, that they belong "
            "together, and the password of the key.",
        ) from None


def _trust(context: ssl.SSLContext, ca_certs: str | Path | None) -> None:
    if ca_certs is None:  # SSL_CERT_FILE, SSL_CERT_DIR, or certifi's
        from opensearchpy import Connection

        ca_certs = Connection.default_ca_certs() or ""
    place = Path(ca_certs)
    try:
        if place.is_dir():
            context.load_verify_locations(capath=place)
        else:
            context.load_verify_locations(cafile=place)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"The CA bundle {place} cannot be used: {_why(error)}.",
            hint="--ca-certs names a file of PEM certificates, or a folder made by c_rehash.",
        ) from None


def _trust_anybody(context: ssl.SSLContext, url: str) -> None:
    from urllib3.exceptions import InsecureRequestWarning

    # The user asked for it, for this host.
    made = f".* made to host '{re.escape(urlsplit(url).hostname or '')}'"
    warnings.filterwarnings("ignore", made, InsecureRequestWarning)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE


def _pin(context: ssl.SSLContext, url: str, fingerprint: str, timeout: float) -> None:
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 443
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((host, port), timeout) as plain_socket,
            context.wrap_socket(plain_socket, server_hostname=host) as secured,
        ):
            chain = _presented(secured)
    except OSError as error:
        kind = "tls" if isinstance(error, ssl.SSLError) else "connection"
        kind = "timeout" if isinstance(error, TimeoutError) else kind
        raise no_connection(url, kind, _why(error)) from error
    found = {hashlib.sha256(certificate).hexdigest(): certificate for certificate in chain}
    if fingerprint not in found:
        raise no_connection(url, "fingerprint", ", ".join(found))
    # Trust in it is what the fingerprint proves, so it need not be a root. Signatures are
    # checked: to show a CA's certificate is not to be signed by it.
    context.load_verify_locations(cadata=found[fingerprint])
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_mode = ssl.CERT_REQUIRED
    # a CA signs for others too, the server's own certificate is nobody else's
    context.check_hostname = fingerprint != next(iter(found))


def _presented(connection: Any) -> list[bytes]:
    """The certificates that the server sends, its own first, as DER."""
    own = connection.getpeercert(binary_form=True)
    if hasattr(connection, "get_unverified_chain"):  # Python 3.13
        chain = connection.get_unverified_chain()
    else:  # as elastic-transport does it
        found = connection._sslobj.get_unverified_chain() or []
        chain = [ssl.PEM_cert_to_DER_cert(one.public_bytes()) for one in found]
    return [own, *(one for one in chain if one != own)]


def _normal(fingerprint: str) -> str:
    text = fingerprint.replace(":", "").strip().lower()
    if not _SHA256.fullmatch(text):
        raise SettingsError(
            f"{fingerprint!r} is no fingerprint: that is the SHA-256 of a certificate, 64 "
            "hexadecimal digits, with or without colons.",
            hint="openssl s_client -connect HOST:PORT </dev/null | openssl x509 -noout "
            "-fingerprint -sha256",
        )
    return text


def _why(error: OSError) -> str:
    reason = getattr(error, "reason", None) or error.strerror or str(error)
    return _SOURCE_LINE.sub("", str(reason)).replace("_", " ").lower()
