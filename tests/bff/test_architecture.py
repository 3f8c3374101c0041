"""The map of `app/`: who may import whom, which library lives where, and the names that others rely on."""

from __future__ import annotations

import ast
import inspect
import sys
from fnmatch import fnmatch
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app.bff.clients.registry import ApiClient, TypedClient
from app.bff.errors import AppError
from app.bff.handlers.authenticated import authenticated
from app.bff.handlers.base import ApiHandler, BaseHandler
from app.bff.server import bff_routes, make_app
from app.bff.settings.apis import HttpClientSettings, RemoteApiSettings
from tests.bff.application.settings import Settings
from tests.bff.harness import make_settings

ROOT = Path(__file__).parents[2]

# Bottom to top. A file imports from the layers below its own, and within its layer without cycles.
LAYERS = [
    "errors paths version backoff interrupts causes budget authorization",
    "settings.*",
    "crypto telemetry.* singleflight batch_loader slots in_flight",
    "web.* spa.document spa.files spa.folder spa.forwarding spa.problems",
    "sessions.session sessions.interfaces sessions.data sessions.events oidc.http oidc.cache oidc.keys"
    " oidc.metadata oidc.claims oidc.kept_claims oidc.step_up oidc.logout_token oidc.error_codes"
    " oidc.refusals oidc.responses oidc.browser_requests oidc.dpop oidc.signed_requests sessions.observed",
    "oidc.client_auth oidc.breaker oidc.endpoints oidc.login_attempt oidc.client"
    " sessions.mongo.* sessions.memory sessions.stores",
    "hooks tokens.*",
    "clients.*",
    "services",
    "doctor.* commands.*",
    "handlers.flash handlers.request_log handlers.web handlers.base handlers.authenticated handlers.socket",
    "handlers.* proxy.* spa.*",
    "monitoring.*",
    "descriptors server shutdown processes cli",
    "dev.*",
    "testing.*",
]

# Every library beyond the standard one, and the files of the application that may import it.
LIBRARIES = {
    "tornado": "handlers.* proxy.* spa.handler spa.routing monitoring.* server processes version",
    "aiohttp": "clients.* proxy.remote_api proxy.websocket spa.server",
    "multidict": "clients.* proxy.remote_api spa.server",
    "yarl": "clients.*",
    "httpx2": "oidc.http oidc.metadata",
    "authlib": "oidc.client oidc.endpoints oidc.client_auth",
    "joserfc": "oidc.keys oidc.dpop",
    "cryptography": "crypto",
    "motor": "sessions.mongo.*",
    "pymongo": "sessions.mongo.* doctor.mongo",
    "bson": "sessions.mongo.* doctor.mongo",
    "jinja2": "services",
    "ua_parser": "web.user_agents",
    "pydantic": "settings.* web.json_body commands.settings",
    "pydantic_core": "settings.*",
    "pydantic_settings": "settings.*",
    "dotenv": "settings.*",
    "uvloop": "cli",
    "prometheus_client": "telemetry.exposition",
    "opentelemetry": "telemetry.traces telemetry.resource telemetry.pushing",
}

# Only development and tests need these; they import what they like.
OF_DEVELOPMENT = "dev.* testing.*"


def _name(file: Path) -> str:
    parts = file.relative_to(ROOT / "app/bff").with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__" or len(parts) == 1)


# A folder's own `__init__` has the folder's name; an empty one does not count.
FILES = {_name(file): file for file in (ROOT / "app/bff").rglob("*.py") if file.stat().st_size}
PUBLIC_NAMES = FILES.pop("__init__")


def in_any(module: str, names: str) -> bool:
    """Whether one of the names, between spaces, is the module's or its folder's."""
    return any(fnmatch(module, name) or name == f"{module}.*" for name in names.split())


APPLICATION_FILES = [module for module in FILES if not in_any(module, OF_DEVELOPMENT)]


@cache
def imported(file: Path) -> frozenset[str]:
    """The full names of everything that a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} has a relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


def engine_imports(module: str) -> set[str]:
    """The modules of `app.bff` that a module imports."""
    inner = {name.removeprefix("app.bff.") for name in imported(FILES[module]) if name.startswith("app.bff.")}
    modules = {name if name in FILES else name.rpartition(".")[0] for name in inner}
    return modules - {""}


def libraries(module: str) -> set[str]:
    roots = {name.partition(".")[0] for name in imported(FILES[module])}
    return roots - sys.stdlib_module_names - {"app"}


def layer_of(module: str) -> int:
    """The number of the first layer that names the module: a name stands before the rest of its folder."""
    [number, *_] = [n for n, names in enumerate(LAYERS) if in_any(module, names)]
    return number


def test_every_file_has_its_layer():
    assert [module for module in FILES if not any(in_any(module, names) for names in LAYERS)] == []


def test_a_file_imports_only_from_the_layers_below_its_own():
    upwards = [(a, b) for a in FILES for b in engine_imports(a) if layer_of(b) > layer_of(a)]

    assert upwards == []


def test_no_imports_go_in_circles():
    in_order = list(TopologicalSorter({module: engine_imports(module) for module in FILES}).static_order())

    assert set(in_order) == set(FILES)


def test_the_development_provider_is_imported_by_tests_alone_and_the_plugin_by_no_file_of_the_engine():
    to_dev, to_testing = (
        [module for module in FILES for name in imported(FILES[module]) if f"{name}.".startswith(folder)]
        for folder in ("app.bff.dev.", "app.bff.testing.")
    )

    assert [module for module in to_dev if not in_any(module, OF_DEVELOPMENT)] == []
    assert [module for module in to_testing if not in_any(module, "testing.*")] == []


def test_the_engine_imports_nothing_of_its_owners_room_and_no_tests():
    found = [
        (file.name, name)
        for file in [PUBLIC_NAMES, *FILES.values()]
        for name in imported(file)
        if name.partition(".")[0] in ("app", "tests") and not f"{name}.".startswith("app.bff.")
    ]

    assert found == []


def test_each_library_lives_in_few_files():
    elsewhere = [
        (module, name)
        for module in APPLICATION_FILES
        for name in libraries(module)
        if not in_any(module, LIBRARIES.get(name, ""))
    ]

    assert elsewhere == []


def test_the_application_needs_no_plain_httpx():
    needed = {library for module in APPLICATION_FILES for library in libraries(module)}

    assert needed & {"httpx", "requests"} == set()


def test_no_library_is_named_here_that_is_not_used():
    assert {library for module in APPLICATION_FILES for library in libraries(module)} == set(LIBRARIES)


# The public interface of design.md: other tools rely on these names.


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("get_user_access_token", ["force_renewal", "scope", "resource"]),
        ("get_client_access_token", ["name"]),
        ("revoke_user_refresh_token", []),
        ("create_client", ["client"]),
    ],
)
def test_a_handler_has(method: str, parameters: list[str]):
    _, *signature = inspect.signature(getattr(BaseHandler, method)).parameters

    assert signature == parameters


@pytest.mark.parametrize(
    "method", ["get_user_access_token", "get_client_access_token", "revoke_user_refresh_token"]
)
def test_in_a_handler_is_awaited(method: str):
    assert inspect.iscoroutinefunction(getattr(BaseHandler, method))


def test_a_handler_for_javascript_is_a_handler_and_any_method_can_ask_for_a_user():
    assert issubclass(ApiHandler, BaseHandler)
    assert callable(authenticated)


@pytest.mark.parametrize(
    "verb", ["request", "get", "post", "put", "patch", "delete", "head", "options", "websocket"]
)
def test_a_client_has_the_verbs_of_aiohttp(verb: str):
    assert callable(getattr(ApiClient, verb))


def test_a_typed_client_has_a_name_and_sends_with_api():
    class Orders(TypedClient):
        name = "apiClient"

    api: Any = object()

    assert Orders(api).api is api
    assert Orders.name == "apiClient"


def test_a_named_client_is_set_up_with():
    assert list(HttpClientSettings.model_fields) == [
        "base_url",
        "token",
        "scope",
        "resource",
        "audience",
        "timeout_seconds",
        "max_connections",
        "max_connections_per_session",
        "max_response_bytes",
        "headers",
    ]


def test_a_remote_api_is_set_up_with():
    assert list(RemoteApiSettings.model_fields) == [
        "path",
        "client",
        "methods",
        "timeout_seconds",
        "idle_seconds",
        "max_response_seconds",
        "max_body_bytes",
        "response_headers",
        "csrf",
        "cache",
        "forwarded",
        "require",
        "write",
    ]


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("base_url", "http://localhost:8888"),
        ("address", "127.0.0.1"),
        ("port", 8888),
        ("processes", 1),
        ("issuer", ""),
        ("client_id", ""),
        ("scope", "openid profile email offline_access"),
        ("client_auth", "client_secret_basic"),
        ("session_store", "mongodb://127.0.0.1:27017/bff"),
        ("mongodb_driver", "motor"),
        ("encryption_keys", ()),
        ("session_idle_seconds", 3600),
        ("session_absolute_seconds", 43200),
        ("refresh_before_expiration_seconds", 60),
        ("provider_timeout_seconds", 5),
        ("provider_keys_cooldown_seconds", 30),
        ("revoke_refresh_token_on_logout", True),
        ("cookie_samesite", "strict"),
        ("http_clients", {}),
        ("remote_apis", ()),
        ("debug", False),
    ],
)
def test_a_setting_has_the_default_of_the_design(name: str, default: object):
    assert Settings.model_fields[name].default == default


@pytest.mark.parametrize(
    "path",
    [
        "/bff/login",
        "/bff/silent-login",
        "/bff/callback",
        "/bff/logout",
        "/bff/logout/callback",
        "/bff/user",
        "/bff/events",
        "/bff/sessions",
        "/bff/sessions/0123456789abcdef",
        "/bff/backchannel",
        "/healthz",
        "/readyz",
    ],
)
def test_there_is_a_route(path: str):
    rules = [
        rule for rule in bff_routes(SimpleNamespace(settings=make_settings())) if getattr(rule, "regex", None)
    ]

    assert [rule for rule in rules if rule.regex.match(path)]


def test_an_application_is_made_from_services_alone():
    assert list(inspect.signature(make_app).parameters) == ["services", "routes", "state"]


def test_every_error_tells_the_browser_a_status_a_code_and_a_title():
    assert (AppError.status, AppError.code) == (500, "internal_error")
    assert AppError.title
