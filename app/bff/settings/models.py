"""What a named client and a remote API are described with, in settings.py or as JSON in the environment."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_core.core_schema import ValidationInfo

from app.bff.settings.validators import absolute, resource_uri

TooMany = Literal["end_oldest", "refuse"]  # what happens at one session too many
_OURS = ("bff", "static", "healthz", "readyz")


class HttpClientSettings(BaseModel):
    """A named client: one API that this application calls.

    `token` says what it carries: `none`; `user`, the signed-in user's access token; `client`, our
    own (client credentials); `user_or_client`, the user's if there is one, else our own;
    `user_or_none`. `scope` and `resource` are asked for when the token is our own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_url: str
    token: Literal["none", "user", "client", "user_or_client", "user_or_none", "exchange"] = "none"
    scope: str | None = None
    resource: str | None = None
    audience: str | None = None
    timeout_seconds: float = Field(default=30, gt=0)
    max_connections: int = Field(default=100, gt=0)
    headers: dict[str, str] = Field(default={}, repr=False)  # may hold an API key

    @field_validator("base_url")
    @classmethod
    def _a_folder(cls, url: str) -> str:
        parts = urlsplit(absolute(url))
        if parts.query or parts.fragment:
            raise ValueError("must have no query and no fragment")
        return url if url.endswith("/") else f"{url}/"

    @field_validator("scope", "resource", "audience")
    @classmethod
    def _with_a_token(cls, value: str | None, info: ValidationInfo) -> str | None:
        kind = info.data.get("token")
        if value and kind == "none":
            raise ValueError("goes with a token, and `token` is none")
        if value and info.field_name == "audience" and kind not in ("exchange", None):
            raise ValueError("goes with the token kind exchange")
        return value or None

    @field_validator("resource")
    @classmethod
    def _a_resource(cls, value: str | None) -> str | None:
        return resource_uri(value) if value else None

    @property
    def asks_at_login(self) -> bool:
        """Whether the user's own token is to be had for this API, which the login must have asked for."""
        return self.token.startswith("user")


class RemoteApiSettings(BaseModel):
    """A path of ours that is forwarded to a named client: `/api` + `/echo` to `{base_url}echo`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str = Field(pattern=r"^/[A-Za-z0-9._~/-]*[A-Za-z0-9._~-]$")
    client: str
    methods: frozenset[str] = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
    timeout_seconds: float | None = Field(default=None, gt=0)  # until the answer begins; else the client's
    max_body_bytes: int = Field(default=10_000_000, gt=0)  # of a request

    @field_validator("path")
    @classmethod
    def _not_one_of_ours(cls, path: str) -> str:
        if path.split("/")[1] in _OURS:
            raise ValueError(
                f"must not begin with /{path.split('/')[1]}, which this application needs itself"
            )
        return path
