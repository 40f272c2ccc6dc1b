"""Settings and folders.

Precedence, highest first: command-line flags, environment variables (``SPLADE_OS_URL`` ...),
a ``.env`` file in the working folder, ``splade-os.toml`` in the working folder, defaults.

A secret is never printed: pydantic masks it, and errors name its setting, not its value. In flags
and environment variables ``@FILE`` stands for the content of a file (``@@`` for a secret's own
``@``).

The two files come with whatever folder somebody happens to be in: they may name a server, and may
hold secrets for it, but get none of the user's own (`_Sources`).
"""

from __future__ import annotations

import difflib
import os
import re
import sys
import tomllib
import warnings
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, Self

import platformdirs
from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from splade_os.errors import SettingsError, SpladeWarning
from splade_os.urls import is_cluster, nodes

_PREFIX = "SPLADE_OS_"
# Variables with the prefix that are no settings: folders, the compose file's, the token of
# `serve`, those of tests and benchmarks, and what Kubernetes sets for a service whose name begins
# with splade-os.
_NOT_SETTINGS = re.compile(
    r"(CACHE|STATE|VERSION|HEAP|PORT|SERVE_TOKEN)$|(TEST|FUZZ|SOAK|BENCH)(_|$)"
    r"|(.*_)?(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT(_\d+_(TCP|UDP|SCTP)(_.*)?)?)$"
)
DEFAULT_URL = "http://localhost:9200"
DEFAULT_MODEL = "starter"
_SECRETS = ("password", "api_key", "bearer_token", "client_key_password")
# What says which server gets a secret, and how sure it is that it is that one; a value of these
# that changes nothing.
_SERVER: dict[str, frozenset[str]] = {
    "url": frozenset(),
    "cloud_id": frozenset(),
    "ca_certs": frozenset(),
    "fingerprint": frozenset(),
    "verify_certs": frozenset({"true", "1", "yes", "on", "t", "y"}),
    "allow_http": frozenset({"false", "0", "no", "off", "f", "n"}),
}
_PLACES = "Settings come from flags, SPLADE_OS_* variables, .env and splade-os.toml."


def cache_dir() -> Path:
    """Folder for what can be made again: downloads, built models, local clusters.

    ``SPLADE_OS_CACHE`` overrides the user's cache folder. Created if missing.
    """
    override = os.environ.get("SPLADE_OS_CACHE")
    return _made(override or platformdirs.user_cache_dir("splade-os"), "SPLADE_OS_CACHE")


def state_dir() -> Path:
    """Folder for what must survive a restart: ledgers of unfinished ingests, settings to be put
    back.

    ``SPLADE_OS_STATE`` overrides the user's state folder. Created if missing.
    """
    override = os.environ.get("SPLADE_OS_STATE")
    return _made(override or platformdirs.user_state_dir("splade-os"), "SPLADE_OS_STATE")


def _made(name: str, variable: str) -> Path:
    """A folder for its owner alone, made if it is missing.

    Raises:
        SettingsError: it cannot be made.
    """
    path = Path(name)
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if variable not in os.environ and path.stat().st_uid == os.geteuid():
            path.chmod(path.stat().st_mode & ~0o077)  # of a version that left them open
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SettingsError(
            f"The folder {path} cannot be made: {reason}.",
            hint=f"Name one that may be written to: {variable}=FOLDER",
        ) from None
    return path


def private_file(file: Path) -> None:
    """Make an empty file for its owner alone, in folders for him alone, if it is missing: what
    holds documents is nobody else's business.

    Raises:
        OSError: it cannot be made.
    """
    missing = [folder for folder in file.parents if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(mode=0o700, exist_ok=True)
    with suppress(FileExistsError):
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


class Settings(BaseSettings):
    """Connection and model settings shared by every command.

    Attributes:
        url: the cluster's URL, or ``sqlite:///FILE`` for the embedded engine.
        cloud_id: of Elastic Cloud, instead of the URL.
        index: default index name.
        model: model folder, hub name or ``starter``; ``None`` in a search means
            "the model that the index names".
        allow_http: credentials may go over ``http://`` to another machine.
        timeout: seconds per request.
        compress: gzip of requests and answers.

    The others are those of `splade_os.engines.connection.options`.
    """

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX,
        extra="ignore",
        hide_input_in_errors=True,
    )

    url: str = DEFAULT_URL
    cloud_id: str | None = None
    index: str | None = None
    model: str | None = None
    username: str | None = None
    password: SecretStr | None = None
    api_key: SecretStr | None = None
    bearer_token: SecretStr | None = None
    aws_region: str | None = None
    aws_service: Literal["es", "aoss"] | None = None
    ca_certs: Path | None = None
    verify_certs: bool = True
    fingerprint: str | None = None
    client_cert: Path | None = None
    client_key: Path | None = None
    client_key_password: SecretStr | None = None
    allow_http: bool = False
    timeout: float = Field(60.0, gt=0, allow_inf_nan=False)
    compress: bool = False
    statistics_index: str = "splade-os-statistics"

    @model_validator(mode="after")
    def _of_cloud(self) -> Self:
        if self.cloud_id is not None:
            if "url" in self.model_fields_set:
                raise SettingsError(
                    "Both a URL and a cloud id are given: which of the two clusters?",
                    hint=f"Leave one of them out. {_PLACES}",
                )
            self.url = cloud_url(self.cloud_id)
        return self

    @model_validator(mode="after")
    def _user_of_url(self) -> Self:
        """The URL is shown, so what it says of the user is kept elsewhere."""
        if not is_cluster(self.url):
            return self
        hosts, user, password = nodes(self.url)
        self.url = ",".join(hosts)
        if user is not None:
            if self.username is not None:
                raise named_twice(self.url)
            self.username = user
            if password is not None:
                self.password = SecretStr(password)
        return self

    def connection(self) -> dict[str, Any]:
        """What `splade_os.engines.connect` takes beside the URL."""
        other = {"url", "cloud_id", "index", "model"}
        return {name: getattr(self, name) for name in type(self).model_fields if name not in other}

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        files = {
            ".env": _DotEnv(settings_cls, env_file=".env"),
            "splade-os.toml": _Toml(settings_cls, toml_file="splade-os.toml"),
        }
        return (_Sources(settings_cls, (init_settings, env_settings), files),)


class _Sources(PydanticBaseSettingsSource):
    """All sources as one, strongest first, and the rule about what they may say together.

    Flags and the environment are the user's. A file of the working folder may have come with a
    checkout or an archive, so a secret goes only to a server that is named, and trusted, by the
    same source or a stronger one; and such a file names no other file to be read as a secret.
    """

    def __init__(
        self,
        settings_cls: type[BaseSettings],
        users: Iterable[PydanticBaseSettingsSource],
        files: Mapping[str, PydanticBaseSettingsSource],
    ) -> None:
        super().__init__(settings_cls)
        self._users, self._files = users, files

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        return None, field_name, False  # `__call__` takes them all at once

    def __call__(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        origin: dict[str, str | None] = {}  # None = the user
        for source in self._users:
            found = {**source(), **found}
        found = {name: _from_file(name, value) for name, value in found.items()}
        origin.update(dict.fromkeys(found))
        for place, source in self._files.items():
            given = {name: value for name, value in source().items() if name not in found}
            found |= {name: _own_at(name, value, place) for name, value in given.items()}
            origin |= dict.fromkeys(given, place)
            _tell(place, given)
        self._check(found, origin)
        return found

    def _check(self, found: Mapping[str, Any], origin: Mapping[str, str | None]) -> None:
        """
        Raises:
            SettingsError: a secret would go to a server of a weaker source.
        """
        strength = [None, *self._files]
        # who signs for AWS does so with credentials from elsewhere
        secrets = [name for name in (*_SECRETS, "aws_region") if found.get(name) is not None]
        if "@" in str(found.get("url", "")):
            secrets.append("url")
        for server, harmless in _SERVER.items():
            if server not in found or str(found[server]).strip().lower() in harmless:
                continue
            for secret in secrets:
                if strength.index(origin[server]) <= strength.index(origin[secret]):
                    continue
                what = "a URL with a user" if secret == "url" else secret
                variable = _PREFIX + server.upper()
                raise SettingsError(
                    f"{server} comes from {Path.cwd() / str(origin[server])}, and {what} does not: "
                    "a file of the working folder may have come with the folder, and does not "
                    "decide where your credentials go.",
                    hint=f"If it is right, say so yourself: {_flag(server)}, or {variable}.",
                )


def _flag(name: str) -> str:
    return "--insecure" if name == "verify_certs" else f"--{name.replace('_', '-')}"


_TOLD: set[tuple[str, ...]] = set()


def _tell(place: str, given: Mapping[str, Any]) -> None:
    """Say once, on stderr, that a file of the working folder is used, and for what: whoever
    stands in a stranger's folder knows of no logging to look at."""
    names = sorted(given.keys() & Settings.model_fields.keys())
    said = (str(Path.cwd() / place), *names)
    if names and said not in _TOLD and sys.stderr is not None:
        _TOLD.add(said)
        print(f"Settings of the file {said[0]} are used: {', '.join(names)}.", file=sys.stderr)


def _own_at(name: str, value: Any, place: str) -> Any:
    if name not in _SECRETS or not isinstance(value, str) or not value.startswith("@"):
        return value
    if value.startswith("@@"):
        return value[1:]
    raise SettingsError(
        f"Wrong setting: {name}: in {Path.cwd() / place} it begins with @, and a file of the "
        "working folder may not name files to be read as secrets.",
        hint=f"Set {_PREFIX}{name.upper()}=@FILE in the environment; a secret that begins with @ "
        "itself is written with @@.",
    )


def _from_file(name: str, value: Any) -> Any:
    if name not in _SECRETS or not isinstance(value, str) or not value.startswith("@"):
        return value
    if value.startswith("@@"):
        return value[1:]
    try:
        return Path(value[1:]).expanduser().read_text("utf-8").rstrip("\r\n")
    except OSError as error:  # the value itself may be a secret: it is not repeated
        why = (
            f"the file that it names with @ cannot be read ({error.strerror}); a secret that "
            "begins with @ itself is written with @@"
        )
    except UnicodeDecodeError:
        why = "the file that it names with @ holds no text"
    except (ValueError, RuntimeError):  # a NUL in the name; ~ of a user who is not there
        why = "what it names with @ is no file name"
    raise SettingsError(f"Wrong setting: {name}: {why}.", hint=_PLACES)


class _DotEnv(DotEnvSettingsSource):
    """``.env``: it may hold the variables of other programs, so a name is doubted, not refused."""

    def _read_env_file(self, file_path: Path) -> Mapping[str, str | None]:
        try:
            found: Mapping[str, str | None] = super()._read_env_file(file_path)
        except (OSError, ValueError) as error:
            raise _unreadable(file_path, error) from None
        _doubt_variables(found, f"in {file_path} ")
        return found


class _Toml(TomlConfigSettingsSource):
    """``splade-os.toml``: it is ours alone, so a name that is none is refused."""

    def _read_file(self, file_path: Any) -> dict[str, Any]:
        try:
            found = tomllib.loads(file_path.read_bytes().decode("utf-8-sig"))
        except (OSError, ValueError, RecursionError) as error:
            raise _unreadable(file_path, error) from None
        unknown = [name for name in found if name not in Settings.model_fields]
        if unknown:
            known = sorted(Settings.model_fields)
            raise SettingsError(
                f"{file_path} holds {unknown[0]!r}, which is no setting.",
                hint=_nearest(unknown[0], known) or f"Settings are: {', '.join(known)}.",
            )
        return found


def _unreadable(file: Path, error: Exception) -> SettingsError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    return SettingsError(f"The settings file {file} cannot be read: {reason}", hint=_PLACES)


def _doubt_variables(names: Iterable[str], where: str = "") -> None:
    """Warn of variables that look like settings and are none."""
    for name in sorted(names):
        rest = name.upper().removeprefix(_PREFIX)
        if rest == name.upper() or rest.lower() in Settings.model_fields:
            continue
        if _NOT_SETTINGS.match(rest):
            continue
        known = [field.upper() for field in sorted(Settings.model_fields)]
        hint = _nearest(rest, known, _PREFIX) or (
            f"There are: {', '.join(_PREFIX + field for field in known)}."
        )
        # the variable's value may be a secret: it is not repeated
        warnings.warn(
            f"The variable {name.upper()} {where}is no setting and does nothing. {hint}",
            SpladeWarning,
            stacklevel=2,
        )


def _nearest(name: str, known: Iterable[str], prefix: str = "") -> str | None:
    found = difflib.get_close_matches(name, known, n=1)
    return f"Is {prefix}{found[0]} meant?" if found else None


def named_twice(url: str) -> SettingsError:
    """A user name beside one in the URL."""
    return SettingsError(
        f"A user name is given twice, and once in the URL of {url}.",
        hint="Take it out of the URL, and set SPLADE_OS_USERNAME and SPLADE_OS_PASSWORD.",
    )


def cloud_url(cloud_id: str) -> str:
    """The URL of Elasticsearch in an Elastic Cloud deployment.

    Raises:
        SettingsError: that is no cloud id, or one without Elasticsearch.
    """
    from elastic_transport.client_utils import parse_cloud_id

    try:
        address = parse_cloud_id(cloud_id).es_address
    except ValueError:
        address = None
    if address is None:
        raise SettingsError(
            f"{cloud_id!r} is not the cloud id of an Elasticsearch deployment.",
            hint="Copy it from the deployment's page in Elastic Cloud (NAME:LETTERS), or give the "
            "endpoint there with --url.",
        )
    return f"https://{address[0]}:{address[1]}"


def load_settings(**flags: Any) -> Settings:
    """Build ``Settings``; flags that are ``None`` fall through to the lower sources.

    Raises:
        SettingsError: naming each wrong value and where it can come from.
        TypeError: a flag that is no setting.
    """
    unknown = flags.keys() - Settings.model_fields.keys()
    if unknown:
        raise TypeError(f"There is no setting {', '.join(sorted(unknown))}.")
    given = {name: value for name, value in flags.items() if value is not None}
    _doubt_variables(os.environ)
    try:
        return Settings(**given)
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, item['loc']))}: {item['msg'].removeprefix('Value error, ')}"
            for item in error.errors()
        )
        raise SettingsError(
            f"Wrong setting: {wrong}.",
            hint=_PLACES,
        ) from None
