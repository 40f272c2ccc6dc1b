"""Settings and folders.

Precedence, highest first: command-line flags, environment variables (``SPLADE_OS_URL`` ...),
a ``.env`` file in the working folder, ``splade-os.toml`` in the working folder, defaults.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import platformdirs
from pydantic import SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from splade_os.errors import SettingsError

DEFAULT_URL = "http://localhost:9200"
DEFAULT_MODEL = "starter"


def cache_dir() -> Path:
    """Folder for what can be made again: downloads, built models, local clusters.

    ``SPLADE_OS_CACHE`` overrides the user's cache folder. Created if missing.
    """
    override = os.environ.get("SPLADE_OS_CACHE")
    path = Path(override) if override else Path(platformdirs.user_cache_dir("splade-os"))
    path.mkdir(parents=True, exist_ok=True)
    return path


def state_dir() -> Path:
    """Folder for what must survive a restart: ledgers of unfinished ingests, settings to be put
    back.

    ``SPLADE_OS_STATE`` overrides the user's state folder. Created if missing.
    """
    override = os.environ.get("SPLADE_OS_STATE")
    path = Path(override) if override else Path(platformdirs.user_state_dir("splade-os"))
    path.mkdir(parents=True, exist_ok=True)
    return path


class Settings(BaseSettings):
    """Connection and model settings shared by every command.

    Attributes:
        url: the cluster's URL, or ``sqlite:///FILE`` for the embedded engine.
        index: default index name.
        model: model folder, hub name or ``starter``; ``None`` in a search means
            "the model that the index names".
        username, password: basic authentication.
        api_key: of Elasticsearch, instead of those.
        ca_certs: CA bundle for TLS.
        verify_certs: check the certificate of an ``https`` URL.
        timeout: seconds per request.
    """

    model_config = SettingsConfigDict(
        env_prefix="SPLADE_OS_",
        env_file=".env",
        toml_file="splade-os.toml",
        extra="ignore",
    )

    url: str = DEFAULT_URL
    index: str | None = None
    model: str | None = None
    username: str | None = None
    password: SecretStr | None = None
    api_key: SecretStr | None = None
    ca_certs: Path | None = None
    verify_certs: bool = True
    timeout: float = 60.0

    def connection(self) -> dict[str, Any]:
        """What `splade_os.engines.connect` takes beside the URL."""
        return {
            "username": self.username,
            "password": self.password.get_secret_value() if self.password else None,
            "api_key": self.api_key.get_secret_value() if self.api_key else None,
            "ca_certs": self.ca_certs,
            "verify_certs": self.verify_certs,
            "timeout": self.timeout,
        }

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        toml = TomlConfigSettingsSource(settings_cls)
        return init_settings, env_settings, dotenv_settings, file_secret_settings, toml


def load_settings(**flags: Any) -> Settings:
    """Build ``Settings``; flags that are ``None`` fall through to the lower sources.

    Raises:
        SettingsError: naming each wrong value and where it can come from.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()
        )
        raise SettingsError(
            f"Wrong setting: {wrong}.",
            hint="Check the flags, SPLADE_OS_* variables, .env and splade-os.toml.",
        ) from None
    except ValueError as error:  # a settings file that is not TOML
        raise SettingsError(f"The settings file splade-os.toml cannot be read: {error}") from None
