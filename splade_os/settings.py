"""Settings and folders.

Precedence, highest first: command-line flags, environment variables (``SPLADE_OS_URL`` ...),
a ``.env`` file in the working folder, ``splade-os.toml`` in the working folder, defaults.

A secret is never printed: pydantic masks it, and errors name its setting, not its value. Wherever
it comes from, ``@FILE`` stands for the content of a file (``@@`` for a secret's own ``@``).
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

import platformdirs
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from splade_os.errors import SettingsError, SpladeWarning

_PREFIX = "SPLADE_OS_"
# Variables with the prefix that are no settings: folders, the compose file's, those of tests and
# benchmarks, and what Kubernetes sets for a service whose name begins with splade-os.
_NOT_SETTINGS = re.compile(
    r"(CACHE|STATE|VERSION|HEAP|PORT)$|(TEST|FUZZ|BENCH)(_|$)"
    r"|(.*_)?(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT(_\d+_(TCP|UDP|SCTP)(_.*)?)?)$"
)
DEFAULT_URL = "http://localhost:9200"
DEFAULT_MODEL = "starter"
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
    """A folder, made if it is missing.

    Raises:
        SettingsError: it cannot be made.
    """
    path = Path(name)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SettingsError(
            f"The folder {path} cannot be made: {reason}.",
            hint=f"Name one that may be written to: {variable}=FOLDER",
        ) from None
    return path


class Settings(BaseSettings):
    """Connection and model settings shared by every command.

    Attributes:
        url: the cluster's URL, or ``sqlite:///FILE`` for the embedded engine.
        cloud_id: of Elastic Cloud, instead of the URL.
        index: default index name.
        model: model folder, hub name or ``starter``; ``None`` in a search means
            "the model that the index names".
        timeout: seconds per request.
        compress: gzip of requests and answers.

    The others are those of `splade_os.engines.connection.options`.
    """

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX,
        toml_file="splade-os.toml",
        extra="ignore",
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
    timeout: float = Field(60.0, gt=0, allow_inf_nan=False)
    compress: bool = False

    @field_validator("password", "api_key", "bearer_token", "client_key_password", mode="before")
    @classmethod
    def _from_file(cls, value: Any) -> Any:
        if not isinstance(value, str) or not value.startswith("@"):
            return value
        if value.startswith("@@"):
            return value[1:]
        try:
            return Path(value[1:]).expanduser().read_text("utf-8").rstrip("\r\n")
        except OSError as error:  # the value itself may be a secret: it is not repeated
            raise ValueError(
                f"the file that it names with @ cannot be read ({error.strerror}); a secret that "
                "begins with @ itself is written with @@"
            ) from None
        except UnicodeDecodeError:
            raise ValueError("the file that it names with @ holds no text") from None
        except (ValueError, RuntimeError):  # a NUL in the name; ~ of a user who is not there
            raise ValueError("what it names with @ is no file name") from None

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
        dotenv, toml = _DotEnv(settings_cls, env_file=".env"), _Toml(settings_cls)
        return init_settings, env_settings, dotenv, file_secret_settings, toml


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
