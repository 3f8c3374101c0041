"""BffSettings: the settings of the process, read once, at start."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Protocol, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretBytes, SecretStr, field_validator
from pydantic_core.core_schema import ValidationInfo
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.bff.authorization import Rule
from app.bff.errors import UsageError
from app.bff.paths import PROJECT, pyproject
from app.bff.settings.apis import (
    LONGEST_SECONDS,
    HttpClientSettings,
    RemoteApiSettings,
    RuleOrBool,
    RuleSetting,
    Seconds,
    WholeSeconds,
    of_known_clients,
    with_defaults,
)
from app.bff.settings.csp import csp_additions
from app.bff.settings.issuers import ANY_TENANT, TENANT, Issuers, tenant_id, with_placeholder
from app.bff.settings.origins import allowed_origin
from app.bff.settings.otlp import missing_extra
from app.bff.settings.spa import is_url, spa_location
from app.bff.settings.validators import (
    absolute,
    cookie_name,
    from_json,
    header_secret,
    is_confidential,
    key_bytes,
    login_params,
    login_params_allowed,
    logout_params,
    require_https,
    single_line,
    split_commas,
    well_formed,
)

ENV_PREFIX, ENV_FILE = "BFF_", ".env"
# Asymmetric ones only. `none` and HS* must never be accepted, whatever the provider's metadata says.
SignatureAlgorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"
]
TooMany = Literal["end_oldest", "refuse"]  # when a login exceeds BFF_MAX_SESSIONS_PER_USER


def _of_project(key: str, default: str) -> str:
    """Return what `[tool.bff]` of pyproject.toml has."""
    return str(pyproject().get("tool", {}).get("bff", {}).get(key, default))


# Here quotes around the value, or a line break in it, are mistakes; elsewhere they may be right.
_SINGLE_LINES = frozenset(
    {"app_name", "base_url", "address", "issuer", "client_id", "client_secret", "scope", "session_store"}
    | {"client_key_file", "forward_auth_secret", "spa", "metrics_address"}
)


class HasSettings(Protocol):
    """`Services`, as far as `BffSettings.of` is concerned."""

    @property
    def settings(self) -> BffSettings: ...


class BffSettings(BaseSettings):
    """The engine's settings, from BFF_… variables and `.env`; docs/bff/settings.md explains each.

    A field of your subclass is read from BFF_ and its name, in capitals. The start of the process lists all
    mistakes at once and refuses BFF_ variables that no field has. Values are immutable. A handler and a
    `lifespan` read them with `Settings.of(services)`.

    The class attributes `default_http_clients`, `default_remote_apis` and `page_layout` (the template that
    the engine's pages extend) are no settings: they are defined in code.

    Example::

        from pydantic import Field, SecretStr

        class Settings(BffSettings):
            default_http_clients = {"orders": HttpClientSettings(base_url="https://orders.example.com/")}
            page_layout = "base.html"

            page_size: int = Field(default=20, gt=0)  # BFF_PAGE_SIZE
            database_password: SecretStr = SecretStr("")  # not shown in a repr or a log line

        class PageSize(ApiHandler):
            def get(self) -> None:
                self.finish_json(Settings.of(self.services).page_size)
    """

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_file=ENV_FILE,
        extra="ignore",
        frozen=True,
        validate_default=True,
    )

    # Defaults that a subclass defines in code; BFF_HTTP_CLIENTS and BFF_REMOTE_APIS add to them.
    default_http_clients: ClassVar[Mapping[str, HttpClientSettings]] = {}
    default_remote_apis: ClassVar[Sequence[RemoteApiSettings]] = ()
    project_folder: ClassVar[Path] = PROJECT  # where `templates` and `static` lie
    page_layout: ClassVar[str] = "bff/layout.html"  # the template that the engine's own pages extend

    debug: bool = False
    app_name: str = Field(default_factory=partial(_of_project, "name", "Tornado BFF"))
    base_url: str = "http://localhost:8888"
    address: str = "127.0.0.1"
    port: int = Field(default=8888, ge=0, le=65535)
    processes: int = Field(default=1, ge=0)  # 0: one per core
    max_connections: int = Field(default=0, ge=0)  # of a process; 0: 10,000; fewer if descriptors are short
    log_requests: bool = True
    trusted_proxies: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = ()
    max_event_streams: int = Field(default=4000, gt=0)
    max_event_streams_per_session: int = Field(default=20, gt=0)
    max_sockets: int = Field(default=4000, gt=0)
    max_sockets_per_session: int = Field(default=20, gt=0)
    stall_seconds: Seconds = 30
    min_bytes_per_second: int = Field(default=500, ge=0)  # 0: any rate
    forward_auth_secret: SecretStr = SecretStr("")  # empty: no /bff/forward-auth
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = ()  # of this site, beside the one of base_url

    spa: str = ""  # a folder with index.html, or with BFF_DEBUG the URL of a development server
    spa_signed_in: Annotated[RuleOrBool, NoDecode] = False
    csp: Annotated[dict[str, tuple[str, ...]], NoDecode] = {}  # sources by directive
    metrics_port: int = Field(default=0, ge=0, le=65535)  # 0: no metrics
    metrics_address: str = "127.0.0.1"
    traces_per_second: int = Field(default=10, gt=0)  # begun by a process; OTEL_TRACES_SAMPLER replaces it

    issuer: str = ""
    metadata_url: str = ""  # empty: below the issuer
    tenants: Annotated[tuple[str, ...], NoDecode] = ()  # of an issuer that has several
    client_id: str = ""
    client_auth: Literal["client_secret_basic", "client_secret_post", "private_key_jwt"] = (
        "client_secret_basic"
    )
    client_secret: SecretStr = SecretStr("")
    client_key_file: Path | None = None
    scope: str = "openid profile email offline_access"
    par: bool = False
    dpop: bool = False
    response_mode: Literal["query", "form_post", "jwt"] = "query"
    signed_requests: bool = False
    login_params: Annotated[dict[str, str], NoDecode] = {}
    login_params_allowed: Annotated[tuple[str, ...], NoDecode] = ()
    logout_params: Annotated[dict[str, str], NoDecode] = {}
    trusted_audiences: Annotated[tuple[str, ...], NoDecode] = ()
    id_token_alg: SignatureAlgorithm | Literal[""] = ""  # empty: RS256 if announced, else what is announced
    userinfo: bool = True
    userinfo_on_refresh: bool = False
    claims: Annotated[tuple[str, ...], NoDecode] = ()  # that a session keeps; none: all
    user_claims: Annotated[tuple[str, ...], NoDecode] = ()  # that /bff/user shows; none: all of these
    require: Annotated[RuleSetting, NoDecode] = None  # who may sign in

    session_store: str = Field(default="mongodb://127.0.0.1:27017/bff", repr=False)  # may hold a password
    mongodb_driver: Literal["motor", "pymongo"] = "motor"
    encryption_keys: Annotated[tuple[SecretBytes, ...], NoDecode] = ()
    session_idle_seconds: WholeSeconds = 3600
    session_absolute_seconds: WholeSeconds = 43200
    max_sessions_per_user: int = Field(default=0, ge=0)  # 0: any number
    too_many_sessions: TooMany = "end_oldest"
    anonymous_session_response: Literal["401", "200"] = "401"

    refresh_before_expiration_seconds: int = Field(default=60, ge=0, le=LONGEST_SECONDS)
    provider_timeout_seconds: Seconds = 5
    provider_keys_cooldown_seconds: WholeSeconds = 30
    ready_without_provider: bool = False
    revoke_refresh_token_on_logout: bool = True
    clear_storage_on_logout: bool = False
    cookie_samesite: Literal["strict", "lax"] = "strict"
    cookie_name: str = Field(default_factory=partial(_of_project, "cookie_name", "bff"))

    http_clients: Annotated[dict[str, HttpClientSettings], NoDecode] = {}
    remote_apis: Annotated[tuple[RemoteApiSettings, ...], NoDecode] = ()

    @field_validator("base_url")
    @classmethod
    def _an_origin(cls, url: str, info: ValidationInfo) -> str:
        parts = urlsplit(absolute(url))
        if parts.path not in ("", "/") or parts.query or parts.fragment:
            raise ValueError("must be an origin, without a path")
        # Browsers send origins in lower case; the `https` property compares it too.
        return require_https(url, debug=info.data.get("debug", False)).rstrip("/").lower()

    @field_validator("spa")
    @classmethod
    def _a_build_or_a_server(cls, value: str, info: ValidationInfo) -> str:
        return spa_location(value, debug=info.data.get("debug", False)) if value else ""

    @field_validator("csp")
    @classmethod
    def _without_any_script(cls, value: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        return csp_additions(value)

    @field_validator("issuer")
    @classmethod
    def _as_the_provider_spells_it(cls, url: str, info: ValidationInfo) -> str:
        if not url:
            raise ValueError("is missing: the address of the OpenID provider")
        if set(url) & set("?#"):
            raise ValueError("must have no query and no fragment")
        return require_https(absolute(url), debug=info.data.get("debug", False))

    @field_validator("metadata_url")
    @classmethod
    def _an_address(cls, url: str, info: ValidationInfo) -> str:
        return require_https(absolute(url), debug=info.data.get("debug", False)) if url else ""

    @field_validator("tenants", mode="before")
    @classmethod
    def _ids_of_tenants(cls, value: Any, info: ValidationInfo) -> Any:
        tenants = [tenant_id(tenant) for tenant in split_commas(value)]
        if ANY_TENANT in tenants and len(tenants) > 1:
            raise ValueError(f"{ANY_TENANT} stands alone")
        if tenants and TENANT not in with_placeholder(info.data.get("issuer", TENANT)):
            raise ValueError("goes with a BFF_ISSUER of several tenants: …/common/…, …/organizations/…")
        return tenants

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
        if file is not None and not os.path.isfile(file):  # Path.is_file raises OSError for some
            raise ValueError("there is no such file")
        return file

    @field_validator("response_mode")
    @classmethod
    def _with_cross_site_cookies(cls, mode: str, info: ValidationInfo) -> str:
        # A cross-site POST carries `SameSite=None` cookies only, which must be Secure.
        if mode == "form_post" and not is_confidential(info.data.get("base_url", "https://")):
            raise ValueError("form_post needs https in BFF_BASE_URL")
        return mode

    @field_validator("signed_requests")
    @classmethod
    def _with_a_key(cls, value: bool, info: ValidationInfo) -> bool:
        if value and info.data.get("client_key_file", True) is None:
            raise ValueError("needs BFF_CLIENT_KEY_FILE: the private key that signs requests")
        return value

    @field_validator("scope")
    @classmethod
    def _openid(cls, value: str) -> str:
        if "openid" not in value.split():
            raise ValueError("must contain openid")
        return value

    @field_validator("userinfo_on_refresh")
    @classmethod
    def _with_userinfo(cls, value: bool, info: ValidationInfo) -> bool:
        if value and not info.data.get("userinfo", True):
            raise ValueError("needs BFF_USERINFO=true")
        return value

    @field_validator("csp", "login_params", "logout_params", "require", mode="before")
    @classmethod
    def _json(cls, value: Any) -> Any:
        return from_json(value)

    @field_validator("login_params")
    @classmethod
    def _not_of_the_flow(cls, params: dict[str, str]) -> dict[str, str]:
        return dict(login_params(params))

    @field_validator("login_params_allowed")
    @classmethod
    def _harmless_in_a_link(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(login_params_allowed(names))

    @field_validator("logout_params")
    @classmethod
    def _with_known_placeholders(cls, params: dict[str, str]) -> dict[str, str]:
        return dict(logout_params(params))

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

    @field_validator(
        *("trusted_audiences", "trusted_proxies", "login_params_allowed", "claims", "user_claims"),
        "allowed_origins",
        mode="before",
    )
    @classmethod
    def _comma_separated(cls, value: Any) -> Any:
        return split_commas(value)

    @field_validator("metrics_port")
    @classmethod
    def _with_the_library(cls, port: int) -> int:
        if port and (missing := missing_extra("prometheus_client", "metrics")):
            raise ValueError(missing)
        return port

    @field_validator("allowed_origins")
    @classmethod
    def _of_the_same_site(cls, origins: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        base_url = info.data.get("base_url")  # not there if it is wrong itself
        return tuple(allowed_origin(origin, base_url) for origin in origins) if base_url else origins

    @field_validator("cookie_name")
    @classmethod
    def _name_without_prefix(cls, name: str) -> str:
        return cookie_name(name)

    @field_validator("forward_auth_secret")
    @classmethod
    def _too_long_to_guess(cls, value: SecretStr) -> SecretStr:
        return SecretStr(header_secret(value.get_secret_value()))

    @field_validator("http_clients", mode="before")
    @classmethod
    def _with_the_clients_in_code(cls, value: Any) -> Any:
        given = from_json(value)
        return {**cls.default_http_clients, **given} if isinstance(given, dict) else given

    @field_validator("remote_apis", mode="before")
    @classmethod
    def _with_the_apis_in_code(cls, value: Any) -> Any:
        given = from_json(value)
        return with_defaults(given, cls.default_remote_apis) if isinstance(given, list | tuple) else given

    @field_validator("remote_apis")
    @classmethod
    def _known_clients(
        cls, apis: tuple[RemoteApiSettings, ...], info: ValidationInfo
    ) -> tuple[RemoteApiSettings, ...]:
        names = info.data.get("http_clients")  # not there if they are wrong themselves
        return apis if names is None else of_known_clients(apis, names)

    # After the other validators in the source, and so before them in time.
    @field_validator("*", mode="before")
    @classmethod
    def _stripped(cls, value: Any, info: ValidationInfo) -> Any:
        value = well_formed(value.strip()) if isinstance(value, str) else value
        return single_line(value) if info.field_name in _SINGLE_LINES else value

    @classmethod
    def of(cls, services: HasSettings) -> Self:
        """Return the settings of the running application, typed as this class.

        Raises UsageError if the application was started with another class.
        """
        settings = services.settings
        if not isinstance(settings, cls):
            names = [f"{each.__module__}.{each.__qualname__}" for each in (type(settings), cls)]
            raise UsageError("the settings are of the class {}, and not of {}".format(*names))
        return settings

    @cached_property
    def issuers(self) -> Issuers:
        return Issuers(self.issuer, frozenset(self.tenants))

    @property
    def spa_folder(self) -> Path | None:
        return Path(self.spa) if self.spa and not is_url(self.spa) else None

    @property
    def spa_server(self) -> str | None:
        """The origin of a development server."""
        return self.spa if is_url(self.spa) else None

    @cached_property
    def https(self) -> bool:
        return self.base_url.startswith("https:")

    @property
    def kept_claims(self) -> frozenset[str]:
        """BFF_CLAIMS, and what rules in settings name: else a refresh could not judge them. Empty: all."""
        of_apis = (rule for api in self.remote_apis for rule in (api.require, api.write))
        rules = [self.require, self.spa_signed_in, *of_apis]
        of_rules = {name for rule in rules if isinstance(rule, Rule) for name in rule.names}
        return frozenset({*self.claims, *of_rules} if self.claims else ())

    @property
    def login_scope(self) -> str:
        """BFF_SCOPE and the scopes of named clients that carry the user's token."""
        scopes = [self.scope, *(client.scope or "" for client in self._user_clients)]
        return " ".join(dict.fromkeys(" ".join(scopes).split()))

    @property
    def login_resources(self) -> list[str]:
        return sorted({client.resource for client in self._user_clients if client.resource})

    @property
    def _user_clients(self) -> list[HttpClientSettings]:
        return [client for client in self.http_clients.values() if client.asks_at_login]

    @property
    def key_ring(self) -> list[bytes]:
        return [key.get_secret_value() for key in self.encryption_keys]
