"""The models of named clients and remote APIs: HttpClientSettings, RemoteApiSettings."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
    PlainValidator,
    field_validator,
)
from pydantic_core.core_schema import ValidationInfo

from app.bff.authorization import Rule
from app.bff.settings.api_headers import extra_header
from app.bff.settings.validators import absolute, header_fields, resource_uri, rule, rule_or_bool

LONGEST_SECONDS = 10 * 365 * 86_400
# Longer times overflow dates and timers.
Seconds = Annotated[float, Field(gt=0, le=LONGEST_SECONDS, allow_inf_nan=False)]
WholeSeconds = Annotated[int, Field(gt=0, le=LONGEST_SECONDS)]
RuleSetting = Annotated[InstanceOf[Rule] | None, BeforeValidator(rule)]
RuleOrBool = Annotated[InstanceOf[Rule] | bool, PlainValidator(rule_or_bool)]
_OURS = ("bff", "static", "healthz", "readyz")


class HttpClientSettings(BaseModel):
    """A named client: one API that this application calls.

    `base_url` is used as it is written, and what lies below it is joined with one slash. `token` is what its
    requests carry:

    - `none`: no access token
    - `user`: the signed-in user's; without a session the request is not sent (NoSession)
    - `client`: this application's own (client credentials grant), shared by all users
    - `user_or_client`, `user_or_none`: the user's if there is a session, else as the second word says
    - `exchange`: one exchanged for the user's (RFC 8693), for `audience`, `resource` or `scope`

    `scope` and `resource` (RFC 8707) narrow the token; for the user's own token they are also requested
    at login. `timeout_seconds` limits one request, `max_connections` those open at a time, and
    `max_connections_per_session` those of one session (default: a quarter), `max_response_bytes` a body that
    is read as a whole, decompressed. `headers` are sent with every request and never logged.

    Raises pydantic's ValidationError, for a `base_url` that is not absolute among others.

    Example::

        HTTP_CLIENTS = {
            "orders": HttpClientSettings(base_url="https://orders.example.com/v1/", token="user"),
            "prices": HttpClientSettings(base_url="https://prices.example.com/", headers={"X-Api-Key": "…"}),
        }
    """

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    base_url: str
    token: Literal["none", "user", "client", "user_or_client", "user_or_none", "exchange"] = "none"
    scope: str | None = None
    resource: str | None = None
    audience: str | None = None
    timeout_seconds: Seconds = 30
    max_connections: int = Field(default=100, gt=0)
    max_connections_per_session: int | None = Field(default=None, gt=0)
    max_response_bytes: int = Field(default=64_000_000, gt=0)
    headers: dict[str, str] = Field(default={}, repr=False)  # may hold an API key

    @field_validator("headers")
    @classmethod
    def _sendable(cls, headers: dict[str, str]) -> dict[str, str]:
        return header_fields(headers)

    @field_validator("base_url")
    @classmethod
    def _an_address(cls, url: str) -> str:
        parts = urlsplit(absolute(url))
        if parts.query or parts.fragment:
            raise ValueError("must have no query and no fragment")
        return url

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
        """Whether logins must request this client's scope and resource: it carries the user's own token."""
        return self.token.startswith("user")


class RemoteApiSettings(BaseModel):
    """A path that is forwarded to a named client: with path `/api`, `/api/echo` goes to `{base_url}/echo`.

    `methods` are those forwarded (others: 405). `timeout_seconds` is how long the API may take to begin its
    response (504; default: the client's), `idle_seconds` how long it may then pause (`text/event-stream`: any
    time), `max_response_seconds` how long the rest of the response may take: beyond them the response is cut
    off. `max_body_bytes` limits a request body (413). `response_headers` are names of headers of the API that
    pass to the browser beyond those of `proxy.rules`, such as `X-Total`.
    `csrf` is how a request proves that a page of this origin has sent it: by the header `X-CSRF: 1`, or with
    `same-origin` a GET or HEAD by `Sec-Fetch-Site` too, as images, downloads and EventSource need it.
    `cache` is whether the browser may store a response: `no-store`, or `private` as the API allows it, for
    the same session only and never without asking again. `forwarded` tells the API where it is seen from:
    `X-Forwarded-Proto`, `X-Forwarded-Host` and `X-Forwarded-Prefix`, of `BFF_BASE_URL` and `path`.
    `require` is a rule over the claims of the session, which every request then needs; `write` is one more
    for WebSockets, and for methods other than GET, HEAD and OPTIONS. Else the response is 403, and 401
    without a session, also where `token` sends no user's token.

    Raises pydantic's ValidationError, for a header that no API may send to the browser among others.

    Example::

        REMOTE_APIS = [RemoteApiSettings(path="/api/orders", client="orders", methods={"GET", "POST"})]
    """

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    path: str = Field(pattern=r"^(?:/[A-Za-z0-9._~-]+)+$")
    client: str
    methods: frozenset[str] = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
    timeout_seconds: Seconds | None = None
    idle_seconds: Seconds = 300
    max_response_seconds: Seconds = 43_200
    max_body_bytes: int = Field(default=10_000_000, gt=0)
    response_headers: frozenset[str] = frozenset()
    csrf: Literal["header", "same-origin"] = "header"
    cache: Literal["no-store", "private"] = "no-store"
    forwarded: bool = False
    require: RuleSetting = None
    write: RuleSetting = None

    @field_validator("response_headers")
    @classmethod
    def _may_pass(cls, names: frozenset[str]) -> frozenset[str]:
        return frozenset(map(extra_header, names))

    @field_validator("path")
    @classmethod
    def _not_one_of_ours(cls, path: str) -> str:
        if path.split("/")[1].lower() in _OURS:
            raise ValueError(f"must not begin with /{path.split('/')[1]}, which the engine uses")
        return path


def with_defaults(given: Sequence[Any], defaults: Sequence[RemoteApiSettings]) -> list[Any]:
    """Return remote APIs as they are given, and those of `defaults` whose paths are not among them."""
    paths = {
        str(api.get("path") if isinstance(api, dict) else getattr(api, "path", "")).strip() for api in given
    }
    # Those given come first: an error names the index that an entry has in the variable.
    return [*given, *(api for api in defaults if api.path not in paths)]


def of_known_clients(
    apis: tuple[RemoteApiSettings, ...], names: Collection[str]
) -> tuple[RemoteApiSettings, ...]:
    """Return the remote APIs; raise ValueError unless `names` has the client of each."""
    for api in apis:
        if api.client not in names:
            known = ", ".join(sorted(names)) or "none"
            raise ValueError(f"no HTTP client named {api.client!r}; there are: {known}")
    return apis
