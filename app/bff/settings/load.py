"""Every knob of the application, its unit and its default. Read once, at start, and passed down."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import Field, SecretBytes, SecretStr, ValidationError, field_validator
from pydantic_core.core_schema import ValidationInfo
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.bff.errors import SettingsError
from app.bff.paths import PROJECT
from app.bff.settings.models import HttpClientSettings, RemoteApiSettings, TooMany
from app.bff.settings.validators import absolute, from_json, key_bytes, require_https, split_commas

__all__ = ["BffSettings", "HttpClientSettings", "RemoteApiSettings"]

_PREFIX = "BFF_"


def _project_name() -> str:
    """Return the name that pyproject.toml gives this application."""
    try:
        return str(tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["bff"]["name"])
    except (OSError, KeyError):
        return "Tornado BFF"


class BffSettings(BaseSettings):
    """All settings; see the README for what each one does.

    The order matters: a rule that looks at two settings stands at the later one.
    """

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX, env_file=".env", extra="ignore", frozen=True, validate_default=True
    )

    # What a subclass names in code: BFF_HTTP_CLIENTS and BFF_REMOTE_APIS add to it.
    default_http_clients: ClassVar[Mapping[str, HttpClientSettings]] = {}
    default_remote_apis: ClassVar[Sequence[RemoteApiSettings]] = ()
    page_layout: ClassVar[str] = "bff/layout.html"  # the template that the engine's own pages extend

    debug: bool = False
    app_name: str = Field(default_factory=_project_name)
    base_url: str = "http://localhost:8888"
    address: str = "127.0.0.1"
    port: int = Field(default=8888, ge=0, le=65535)
    processes: int = Field(default=1, ge=0)  # 0: one per core
    log_requests: bool = True
    trusted_proxies: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = ()

    issuer: str = ""
    client_id: str = ""
    client_auth: Literal["client_secret_basic", "client_secret_post", "private_key_jwt"] = (
        "client_secret_basic"
    )
    client_secret: SecretStr = SecretStr("")
    client_key_file: Path | None = None
    scope: str = "openid profile email offline_access"
    par: bool = False
    dpop: bool = False

    session_store: str = Field(default="mongodb://127.0.0.1:27017/bff", repr=False)  # may hold a password
    mongodb_driver: Literal["motor", "pymongo"] = "motor"
    encryption_keys: Annotated[tuple[SecretBytes, ...], NoDecode] = ()
    session_idle_seconds: int = Field(default=3600, gt=0)
    session_absolute_seconds: int = Field(default=43200, gt=0)
    max_sessions_per_user: int = Field(default=0, ge=0)  # 0: any number
    too_many_sessions: TooMany = "end_oldest"
    anonymous_session_response: Literal["401", "200"] = "401"

    refresh_before_expiration_seconds: int = Field(default=60, ge=0)
    provider_timeout_seconds: float = Field(default=5, gt=0)
    provider_keys_cooldown_seconds: int = Field(default=30, ge=1)
    revoke_refresh_token_on_logout: bool = True
    cookie_samesite: Literal["strict", "lax"] = "strict"

    http_clients: Annotated[dict[str, HttpClientSettings], NoDecode] = {}
    remote_apis: Annotated[tuple[RemoteApiSettings, ...], NoDecode] = ()

    @field_validator("base_url")
    @classmethod
    def _an_origin(cls, url: str, info: ValidationInfo) -> str:
        parts = urlsplit(absolute(url))
        if parts.path not in ("", "/") or parts.query or parts.fragment:
            raise ValueError("must be an origin, without a path")
        # In lower case, as browsers write it: cookies are Secure only if `https` is seen here.
        return require_https(url, debug=info.data.get("debug", False)).rstrip("/").lower()

    @field_validator("issuer")
    @classmethod
    def _as_the_provider_spells_it(cls, url: str, info: ValidationInfo) -> str:
        if not url:
            raise ValueError("is missing: the address of the OpenID provider")
        if set(url) & set("?# "):
            raise ValueError("must have no query and no fragment")
        return require_https(absolute(url), debug=info.data.get("debug", False))

    @field_validator("client_id")
    @classmethod
    def _registered(cls, value: str) -> str:
        if not value:
            raise ValueError("is missing: our client id at the provider")
        return value

    @field_validator("client_secret")
    @classmethod
    def _known_to_the_provider(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        if not value.get_secret_value() and info.data.get("client_auth") != "private_key_jwt":
            raise ValueError("is missing: our client secret at the provider")
        return value

    @field_validator("client_key_file")
    @classmethod
    def _readable(cls, file: Path | None, info: ValidationInfo) -> Path | None:
        if file is None and info.data.get("client_auth") == "private_key_jwt":
            raise ValueError("is missing: the file with our private key, PEM or JWK")
        if file is not None and not file.is_file():
            raise ValueError("there is no such file")
        return file

    @field_validator("scope")
    @classmethod
    def _openid(cls, value: str) -> str:
        if "openid" not in value.split():
            raise ValueError("must contain openid")
        return value

    @field_validator("session_store")
    @classmethod
    def _a_known_store(cls, value: str, info: ValidationInfo) -> str:
        if value != "memory:" and not value.startswith(("mongodb://", "mongodb+srv://")):
            raise ValueError("must be mongodb://… or memory:")
        if value == "memory:" and info.data.get("processes", 1) != 1:
            raise ValueError("memory: is for one process only, and BFF_PROCESSES asks for more")
        return value

    @field_validator("encryption_keys", mode="before")
    @classmethod
    def _key_ring(cls, value: Any, info: ValidationInfo) -> Any:
        keys = split_commas(value)
        if not keys and not info.data.get("debug"):
            raise ValueError("is missing: make one with `openssl rand -base64 32`")
        return [key_bytes(key) for key in keys] or [os.urandom(32)]

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _networks(cls, value: Any) -> Any:
        return split_commas(value)

    @field_validator("http_clients", mode="before")
    @classmethod
    def _with_the_clients_in_code(cls, value: Any) -> Any:
        given = from_json(value)
        return {**cls.default_http_clients, **given} if isinstance(given, dict) else given

    @field_validator("remote_apis", mode="before")
    @classmethod
    def _with_the_apis_in_code(cls, value: Any) -> Any:
        given = from_json(value)
        if not isinstance(given, list | tuple):
            return given
        paths = {api.get("path") if isinstance(api, dict) else getattr(api, "path", None) for api in given}
        return [*(api for api in cls.default_remote_apis if api.path not in paths), *given]

    @field_validator("remote_apis")
    @classmethod
    def _known_clients(
        cls, apis: tuple[RemoteApiSettings, ...], info: ValidationInfo
    ) -> tuple[RemoteApiSettings, ...]:
        names = info.data.get("http_clients")  # not there if they are wrong themselves
        for api in apis:
            if names is not None and api.client not in names:
                known = ", ".join(sorted(names)) or "none"
                raise ValueError(f"no HTTP client named {api.client!r}; there are: {known}")
        return apis

    @property
    def https(self) -> bool:
        return self.base_url.startswith("https:")

    @property
    def login_scope(self) -> str:
        """BFF_SCOPE, and what the named clients want of the user's token."""
        wanted = [self.scope, *(client.scope or "" for client in self._user_clients)]
        return " ".join(dict.fromkeys(" ".join(wanted).split()))

    @property
    def login_resources(self) -> list[str]:
        return sorted({client.resource for client in self._user_clients if client.resource})

    @property
    def _user_clients(self) -> list[HttpClientSettings]:
        return [client for client in self.http_clients.values() if client.asks_at_login]

    @property
    def key_ring(self) -> list[bytes]:
        return [key.get_secret_value() for key in self.encryption_keys]

    @classmethod
    def load(cls) -> Self:
        """Read the environment and `.env`, or raise SettingsError with a line for every mistake."""
        names = [name for name in {**dotenv_values(".env"), **os.environ} if name.startswith(_PREFIX)]
        mistakes = [_unknown(name, cls) for name in names if not _is_known(name, cls)]
        try:
            settings = cls()
        except ValidationError as error:
            mistakes += [
                _in_words(problem) for problem in error.errors(include_input=False, include_url=False)
            ]
        if mistakes:
            raise SettingsError(*mistakes)
        return settings


def _is_known(name: str, model: type[BaseSettings]) -> bool:
    return name.removeprefix(_PREFIX).lower() in model.model_fields


def _unknown(name: str, model: type[BaseSettings]) -> str:
    known = [_PREFIX + field.upper() for field in model.model_fields]
    guess = difflib.get_close_matches(name, known, n=1)
    return f"{name}: there is no such setting" + (f"; did you mean {guess[0]}?" if guess else "")


def _in_words(problem: Mapping[str, Any]) -> str:
    name, *inner = (str(part) for part in problem["loc"])
    where = "".join(f"[{part}]" for part in inner)
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        shape = HttpClientSettings if name == "http_clients" else RemoteApiSettings
        message = f"there is no such key; there are: {', '.join(shape.model_fields)}"
    return f"{_PREFIX}{name.upper()}{where}: {message}"
