"""Settings: read from the environment and `.env`, all mistakes reported at once, and no secret ever shown."""

from __future__ import annotations

import base64
import json
import os
import re
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.bff.commands import settings as settings_command
from app.bff.errors import SettingsError
from app.bff.settings.apis import HttpClientSettings, RemoteApiSettings
from app.bff.settings.load import load_settings
from app.bff.settings.sources import secret_fields
from tests.bff.application.settings import HTTP_CLIENTS, Settings

KEY = base64.b64encode(b"k" * 32).decode()
RIGHT = {
    "ISSUER": "https://provider.example",
    "CLIENT_ID": "app",
    "CLIENT_SECRET": "recognisable-secret",
    "ENCRYPTION_KEYS": KEY,
}
Load = Callable[..., Settings]
Mistakes = Callable[..., list[str]]


@pytest.fixture(autouse=True)
def empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A working directory without `.env`, and an environment without settings."""
    for name in [name for name in os.environ if name.startswith("BFF_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    """Load settings that are right, but for the variables that a test changes or sets to None."""

    def load(**changed: str | None) -> Settings:
        for name, value in {**RIGHT, **changed}.items():
            if value is not None:
                monkeypatch.setenv(f"BFF_{name}", value)
        return load_settings(Settings)

    return load


@pytest.fixture
def mistakes(load: Load) -> Mistakes:
    """The lines of the message that stops the process."""

    def mistakes(**changed: str | None) -> list[str]:
        with pytest.raises(SettingsError) as stopped:
            load(**changed)
        first, *lines = str(stopped.value).splitlines()
        assert first == "The settings are wrong:"
        return [line.strip() for line in lines]

    return mistakes


def test_issuer_and_client_credentials_are_enough_to_start(load: Load):
    settings = load()

    assert settings.base_url == "http://localhost:8888"
    assert (settings.address, settings.port, settings.processes) == ("127.0.0.1", 8888, 1)
    assert settings.session_store == "mongodb://127.0.0.1:27017/bff"
    assert settings.client_secret.get_secret_value() == "recognisable-secret"
    assert settings.key_ring == [b"k" * 32]


def test_settings_are_read_from_env_in_the_working_directory(empty_folder: Path):
    lines = [f"BFF_{name}={value}" for name, value in RIGHT.items()]
    (empty_folder / ".env").write_text("\n".join([*lines, "BFF_PORT=9999", "OTHER=x"]))

    assert load_settings(Settings).port == 9999


def test_the_environment_wins_over_that_file(load: Load, empty_folder: Path):
    (empty_folder / ".env").write_text("BFF_PORT=9999\nBFF_ADDRESS=0.0.0.0")

    settings = load(PORT="7777")

    assert (settings.port, settings.address) == (7777, "0.0.0.0")  # noqa: S104


def test_settings_never_change(load: Load):
    settings = load()

    with pytest.raises(ValueError, match="frozen"):
        settings.port = 1


# What stops the process, and what it says.


def test_all_mistakes_are_reported_at_once(mistakes: Mistakes):
    lines = mistakes(ISSUER=None, CLIENT_ID="", PORT="many", COOKIE_SAMESITE="none", SCOPE="email", TYPO="1")

    assert [line.partition(":")[0] for line in lines] == [
        "BFF_TYPO",
        "BFF_PORT",
        "BFF_ISSUER",
        "BFF_CLIENT_ID",
        "BFF_SCOPE",
        "BFF_COOKIE_SAMESITE",
    ]


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize("value", [None, ""], ids=["missing", "empty"])
def test_a_required_setting_must_not_be(mistakes: Mistakes, name: str, value: str | None):
    [line] = mistakes(**{name: value})

    assert line.startswith(f"BFF_{name}: is missing: ")


def test_for_development_a_missing_key_is_made_up_and_differs_every_time(load: Load):
    first, second = (load(DEBUG="true", ENCRYPTION_KEYS=None).key_ring for _ in range(2))

    assert first != second
    assert [len(key) for key in first] == [32]


@pytest.mark.parametrize("name", ["ISSUER", "CLIENT_ID", "CLIENT_SECRET"])
def test_even_for_development_we_must_know_the_provider(mistakes: Mistakes, name: str):
    [line] = mistakes(DEBUG="true", **{name: None})

    assert line.startswith(f"BFF_{name}: is missing")


@pytest.mark.parametrize(
    ("name", "guess"), [("ISSUERS", "ISSUER"), ("CLIENT_SECERT", "CLIENT_SECRET"), ("PORTS", "PORT")]
)
def test_an_unknown_setting_is_reported_with_a_guess(mistakes: Mistakes, name: str, guess: str):
    assert mistakes(**{name: "x"}) == [f"BFF_{name}: there is no such setting; did you mean BFF_{guess}?"]


def test_without_any_likeness_there_is_no_guess(mistakes: Mistakes):
    assert mistakes(QQQQQQQQQQ="x") == ["BFF_QQQQQQQQQQ: there is no such setting"]


def test_an_unknown_setting_in_the_file_is_reported_too(mistakes: Mistakes, empty_folder: Path):
    (empty_folder / ".env").write_text("BFF_ISSUERS=x")

    assert mistakes() == ["BFF_ISSUERS: there is no such setting; did you mean BFF_ISSUER?"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DEBUG", "perhaps"),
        ("PORT", "70000"),
        ("PROCESSES", "-1"),
        ("CLIENT_AUTH", "none"),
        ("SESSION_STORE", "redis://localhost"),
        ("MONGODB_DRIVER", "mongoengine"),
        ("SESSION_IDLE_SECONDS", "0"),
        ("SESSION_ABSOLUTE_SECONDS", "-1"),
        ("REFRESH_BEFORE_EXPIRATION_SECONDS", "-1"),
        ("PROVIDER_TIMEOUT_SECONDS", "0"),
        ("PROVIDER_KEYS_COOLDOWN_SECONDS", "0"),
        ("REVOKE_REFRESH_TOKEN_ON_LOGOUT", "sometimes"),
        ("COOKIE_SAMESITE", "none"),
        ("SCOPE", "profile"),
        ("REMOTE_APIS", '{"path": "/api"}'),
    ],
)
def test_an_invalid_value_is_reported_by_the_name_of_its_setting(mistakes: Mistakes, name, value):
    [line] = mistakes(**{name: value})

    assert re.match(rf"BFF_{name}\b", line)


ENTRA = "https://login.example.com/common/v2.0"
TENANT_ID = "11111111-2222-3333-4444-555555555555"


def test_tenants_are_listed_for_an_issuer_that_has_several(load: Load):
    settings = load(ISSUER=ENTRA, TENANTS=f"{TENANT_ID}, another")

    assert settings.tenants == (TENANT_ID, "another")
    assert settings.issuers.announced == "https://login.example.com/{tenantid}/v2.0"


@pytest.mark.parametrize(
    ("issuer", "tenants", "mistake"),
    [
        ("https://login.example.com/one/v2.0", TENANT_ID, "goes with a BFF_ISSUER of several tenants"),
        (ENTRA, "common", "must be ids of tenants"),
        (ENTRA, "contoso.com", "must be ids of tenants"),
        (ENTRA, "*", "must be ids of tenants"),
        (ENTRA, "any", "or any-organisation-may-sign-in"),
        (ENTRA, f"any-organisation-may-sign-in,{TENANT_ID}", "stands alone"),
        (ENTRA, "any-organisation-may-sign-in", None),
    ],
)
def test_tenants_are_ids_or_say_how_open_the_door_is(
    load: Load, mistakes: Mistakes, issuer: str, tenants: str, mistake: str | None
):
    if mistake is None:
        assert load(ISSUER=issuer, TENANTS=tenants).tenants == (tenants,)
    else:
        [line] = mistakes(ISSUER=issuer, TENANTS=tenants)
        assert line.startswith("BFF_TENANTS: ")
        assert mistake in line


def test_a_proxy_of_the_environment_that_cannot_be_used_is_reported_with_the_other_mistakes(
    mistakes: Mistakes, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HTTPS_PROXY", "socks5://user:hunter2@proxy:1080")
    lines = mistakes(PORT="no number")

    assert len(lines) == 2
    assert lines[-1].startswith("HTTPS_PROXY: must be the http(s) URL of a proxy")
    assert "hunter2" not in str(lines)


def test_memory_is_for_one_process(load: Load, mistakes: Mistakes):
    assert load(SESSION_STORE="memory:", PROCESSES="1").session_store == "memory:"
    for processes in ("2", "0"):
        [line] = mistakes(SESSION_STORE="memory:", PROCESSES=processes)
        assert line.startswith("BFF_SESSION_STORE: memory: is for one process only")


# Addresses.


@pytest.mark.parametrize(
    "issuer", ["http://localhost:9000", "http://127.0.0.1:9000", "http://[::1]:9000", "http://id.localhost"]
)
def test_a_provider_on_this_machine_may_be_in_the_clear(load: Load, issuer: str):
    assert load(ISSUER=issuer).issuer == issuer


@pytest.mark.parametrize("name", ["ISSUER", "BASE_URL", "METADATA_URL"])
@pytest.mark.parametrize(
    "url",
    ["http://provider.example", "http://localhost.example", "http://127.0.0.1.example", "http://10.0.0.1"],
)
def test_elsewhere_plain_http_is_for_development_only(load: Load, mistakes: Mistakes, name: str, url: str):
    [line] = mistakes(**{name: url})

    assert line.startswith(f"BFF_{name}: must be https")
    assert getattr(load(DEBUG="true", **{name: url}), name.lower()) == url


def test_the_issuer_stays_exactly_as_the_provider_spells_it(load: Load):
    assert load(ISSUER="https://Provider.example/realms/A/").issuer == "https://Provider.example/realms/A/"


BAD_URLS = [
    "https://a b.example",
    "https://a.example/ /b",
    "provider.example",
    "/path",
    "ftp://provider.example",
    "https://",
    "https://[",
    "https://x:port",
]


@pytest.mark.parametrize("name", ["ISSUER", "BASE_URL"])
@pytest.mark.parametrize("url", [*BAD_URLS, "https://user:pass@provider.example"])
def test_an_address_is_an_absolute_url_without_password(mistakes: Mistakes, name: str, url: str):
    [line] = mistakes(**{name: url})

    assert line == f"BFF_{name}: must be an absolute http(s) URL without user name, password or spaces"


@pytest.mark.parametrize(
    "name",
    ["BASE_URL", "ISSUER", "CLIENT_ID", "CLIENT_SECRET", "ADDRESS", "PORT", "DEBUG", "ENCRYPTION_KEYS"],
)
@pytest.mark.parametrize("space", [" ", "\n", "\r\n", "\t", "\u00a0"])
def test_white_space_around_a_value_is_no_part_of_it(load: Load, name: str, space: str):
    right = {"BASE_URL": "https://app.example", "ADDRESS": "127.0.0.1", "PORT": "1", "DEBUG": "1", **RIGHT}
    plain, spaced = load(**right), load(**right | {name: f"{space}{right[name]}{space}"})

    assert getattr(spaced, name.lower()) == getattr(plain, name.lower())


SINGLE_LINES = [
    "APP_NAME",
    "BASE_URL",
    "ISSUER",
    "CLIENT_ID",
    "CLIENT_SECRET",
    "SCOPE",
    "FORWARD_AUTH_SECRET",
]


@pytest.mark.parametrize("name", SINGLE_LINES)
@pytest.mark.parametrize("wrong", ['"{}"', "'{}'", "{}\nx", "x\x7f{}"])
def test_quotes_and_line_breaks_stop_the_start(mistakes: Mistakes, name: str, wrong: str):
    [line] = mistakes(**{name: wrong.format("recognisable")})

    assert line.startswith(f"BFF_{name}: ")
    assert "recognisable" not in line


def test_the_values_in_json_are_stripped_too(load: Load):
    clients = {"orders": {"base_url": " https://orders.example/\n", "scope": " a ", "token": "user"}}
    settings = load(HTTP_CLIENTS=f"\n{json.dumps(clients)}\n")

    assert settings.http_clients["orders"].base_url == "https://orders.example/"
    assert settings.http_clients["orders"].scope == "a"


# Parameters for the provider


def test_parameters_for_the_provider_are_json_and_a_list_of_names(load: Load):
    params = '{"audience": "https://api.example", "prompt": "consent"}'
    settings = load(LOGIN_PARAMS=params, LOGIN_PARAMS_ALLOWED="kc_idp_hint, ui_locales")

    assert settings.login_params == {"audience": "https://api.example", "prompt": "consent"}
    assert settings.login_params_allowed == ("kc_idp_hint", "ui_locales")


OF_THE_FLOW = [
    *("client_id", "redirect_uri", "scope", "State", "nonce", "code_challenge", "request_uri"),
    *("response_type", "response_mode", "client_secret", "login_hint"),
]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        *(
            pytest.param(
                f"LOGIN_PARAMS{suffix}", shape % owned, f"{owned} is set by the flow", id=f"{owned}{suffix}"
            )
            for owned in OF_THE_FLOW
            for suffix, shape in [("", '{"%s": "x"}'), ("_ALLOWED", "ui_locales,%s")]
        ),
        ("LOGIN_PARAMS", '{"prompt": "none"}', "prompt=none would make every login a silent one"),
        ("LOGIN_PARAMS", '{"a b": "x"}', "'a b' is no name of a parameter"),
        ("LOGIN_PARAMS", '{"audience": 1}', "Input should be a valid string"),
        ("LOGIN_PARAMS", "audience=x", "is not JSON"),
        ("LOGIN_PARAMS_ALLOWED", "acr_values", "acr_values is set by the flow"),
        ("LOGOUT_PARAMS", '{"state": "x"}', "state is set by the flow"),
        (
            "LOGOUT_PARAMS",
            '{"logout_uri": "{base_url}"}',
            "there is no placeholder {base_url}; there are: {client_id}",
        ),
    ],
)
def test_parameters_that_belong_to_the_flow_stop_the_start(
    mistakes: Mistakes, name: str, value: str, message: str
):
    [line] = mistakes(**{name: value})

    assert line.startswith(f"BFF_{name}")
    assert message in line


@pytest.mark.parametrize("rest", ["/app", "?x=1", "#x", "/?x"])
def test_our_own_address_is_an_origin_and_nothing_more(mistakes: Mistakes, rest: str):
    assert mistakes(BASE_URL=f"https://app.example{rest}") == [
        "BFF_BASE_URL: must be an origin, without a path"
    ]


@pytest.mark.parametrize("url", ["https://app.example", "https://app.example/", "HTTPS://App.example"])
def test_however_it_is_written_https_makes_cookies_secure(load: Load, url: str):
    settings = load(BASE_URL=url)

    assert settings.base_url == "https://app.example"
    assert settings.https


def test_on_http_they_are_not(load: Load):
    assert not load(BASE_URL="http://localhost:8888").https


# Keys.


def test_a_ring_has_several_keys_and_the_first_one_first(load: Load):
    older = base64.b64encode(b"o" * 32).decode()

    assert load(ENCRYPTION_KEYS=f" {KEY} , {older},").key_ring == [b"k" * 32, b"o" * 32]


@pytest.mark.parametrize(
    "key",
    [
        pytest.param("recognisable", id="no base64"),
        pytest.param(base64.b64encode(b"k" * 31).decode(), id="31 bytes"),
        pytest.param(base64.b64encode(b"k" * 33).decode(), id="33 bytes"),
        pytest.param("k" * 32, id="32 letters"),
        pytest.param("ключ", id="other letters"),
        pytest.param(f"{KEY},short", id="the second one too short"),
    ],
)
def test_a_bad_key_stops_the_process_even_in_development(mistakes: Mistakes, key: str):
    for debug in ("true", "false"):
        assert mistakes(DEBUG=debug, ENCRYPTION_KEYS=key) == [
            "BFF_ENCRYPTION_KEYS: each key must be the base64 of 32 bytes"
        ]


# Clients and remote APIs.


def client(**changed: Any) -> str:
    """BFF_HTTP_CLIENTS with a client named `orders`."""
    return json.dumps({"orders": {"base_url": "https://orders.example", **changed}})


def test_clients_are_added_to_those_of_the_code(load: Load):
    settings = load(HTTP_CLIENTS=client(token="client", scope="orders.read"))

    assert set(settings.http_clients) == {*HTTP_CLIENTS, "orders"}
    assert settings.http_clients["orders"].scope == "orders.read"


def test_a_client_of_the_same_name_takes_its_place(load: Load):
    name = next(iter(HTTP_CLIENTS))
    settings = load(HTTP_CLIENTS=json.dumps({name: {"base_url": "https://elsewhere.example"}}))

    assert settings.http_clients == {name: HttpClientSettings(base_url="https://elsewhere.example")}


class Demo(Settings):
    default_remote_apis = (RemoteApiSettings(path="/api", client="apiClient"),)


@pytest.mark.parametrize(
    ("given", "apis"),
    [
        pytest.param(None, {"/api": "apiClient"}, id="none"),
        pytest.param([], {"/api": "apiClient"}, id="an empty list"),
        pytest.param([("/orders", "orders")], {"/orders": "orders", "/api": "apiClient"}, id="another path"),
        pytest.param([("/api/orders", "orders")], {"/api/orders": "orders", "/api": "apiClient"}, id="below"),
        pytest.param([("/API", "orders")], {"/API": "orders", "/api": "apiClient"}, id="in capitals"),
        pytest.param([("/api", "orders")], {"/api": "orders"}, id="the same path"),
        pytest.param([(" /api ", "orders")], {"/api": "orders"}, id="the same path with spaces"),
    ],
)
def test_remote_apis_are_added_to_those_of_the_code_and_one_of_the_same_path_takes_its_place(
    given: list[tuple[str, str]] | None, apis: dict[str, str], load: Load
):
    listed = None if given is None else json.dumps([{"path": path, "client": name} for path, name in given])
    load(REMOTE_APIS=listed, HTTP_CLIENTS=client())  # which sets the environment

    assert [(api.path, api.client) for api in load_settings(Demo).remote_apis] == [*apis.items()]


@pytest.mark.parametrize("url", ["https://orders.example", "https://orders.example/v1", "https://x/v1/"])
def test_the_base_url_of_a_client_stays_as_it_is_written(url):
    assert HttpClientSettings(base_url=url).base_url == url


def test_a_client_carries_no_token_unless_the_settings_say_so():
    assert HttpClientSettings(base_url="https://orders.example").token == "none"


@pytest.mark.parametrize(
    ("changed", "where", "reason"),
    [
        pytest.param({"base_url": None}, "[base_url]", "valid string", id="null as address"),
        pytest.param({"base_url": "https://x/?a=1"}, "[base_url]", "no query", id="a query in its address"),
        pytest.param(
            {"base_url": "https://x/#a"}, "[base_url]", "no fragment", id="a fragment in its address"
        ),
        *(pytest.param({"base_url": url}, "[base_url]", "absolute", id=url) for url in BAD_URLS),
        pytest.param({"token": "usr"}, "[token]", "'user_or_client'", id="an unknown kind of token"),
        pytest.param({"timeout_seconds": 0}, "[timeout_seconds]", "greater than 0", id="no time"),
        pytest.param({"max_connections": 0}, "[max_connections]", "greater than 0", id="no connections"),
        pytest.param({"headers": {"X": 1}}, "[headers][X]", "valid string", id="a number as header"),
        pytest.param({"token": "none", "scope": "a"}, "[scope]", "goes with", id="a scope for none"),
        pytest.param(
            {"token": "user", "audience": "a"}, "[audience]", "exchange", id="an audience without exchange"
        ),
        pytest.param(
            {"token": "user", "resource": "a"}, "[resource]", "absolute", id="a resource that is no URI"
        ),
        pytest.param(
            {"token": "user", "resource": "urn:a#b"}, "[resource]", "fragment", id="a resource with fragment"
        ),
        pytest.param({"token": "none", "resource": "a"}, "[resource]", "goes with", id="a resource for none"),
    ],
)
def test_a_client_is_wrong_when_it_has(mistakes: Mistakes, changed, where, reason):
    [line] = mistakes(HTTP_CLIENTS=client(**changed))

    assert line.startswith(f"BFF_HTTP_CLIENTS[orders]{where}: ")
    assert reason in line


def test_an_unknown_key_of_a_client_is_reported_with_the_right_ones(mistakes: Mistakes):
    assert mistakes(HTTP_CLIENTS=client(base_uri="x")) == [
        "BFF_HTTP_CLIENTS[orders][base_uri]: there is no such key; there are: "
        "base_url, token, scope, resource, audience, timeout_seconds, max_connections, "
        "max_connections_per_session, max_response_bytes, headers"
    ]


def test_an_unknown_key_of_a_remote_api_is_reported_with_the_right_ones(mistakes: Mistakes):
    assert mistakes(REMOTE_APIS='[{"path": "/api", "client": "apiClient", "verbs": []}]') == [
        "BFF_REMOTE_APIS[0][verbs]: there is no such key; there are: "
        "path, client, methods, timeout_seconds, idle_seconds, max_response_seconds, max_body_bytes, "
        "response_headers, csrf, cache, forwarded, require, write"
    ]


@pytest.mark.parametrize("name", ["HTTP_CLIENTS", "REMOTE_APIS"])
@pytest.mark.parametrize("value", ["", "{", "{'a': 1}", "recognisable"])
def test_what_is_not_json_is_reported_and_not_repeated(mistakes: Mistakes, name: str, value: str):
    [line] = mistakes(**{name: value})

    assert line.startswith(f"BFF_{name}: is not JSON: ")
    assert "recognisable" not in line


@pytest.mark.parametrize("value", ["[]", "7", "null", '"x"', '{"orders": "https://x"}', '{"orders": null}'])
def test_clients_are_an_object_of_objects(mistakes: Mistakes, value: str):
    [line] = mistakes(HTTP_CLIENTS=value)

    assert line.startswith("BFF_HTTP_CLIENTS")


def test_a_remote_api_names_a_client_that_there_is(mistakes: Mistakes):
    lines = mistakes(REMOTE_APIS='[{"path": "/api", "client": "billing"}]', HTTP_CLIENTS=client())

    assert lines == ["BFF_REMOTE_APIS: no HTTP client named 'billing'; there are: apiClient, orders"]


def test_a_remote_api_forwards_every_usual_method_unless_the_settings_say_which(load: Load):
    usual, chosen, *_ = load(
        REMOTE_APIS='[{"path": "/a", "client": "apiClient"},'
        ' {"path": "/b", "client": "apiClient", "methods": ["GET"]}]'
    ).remote_apis

    assert {"GET", "POST", "DELETE"} < usual.methods
    assert chosen == RemoteApiSettings(path="/b", client="apiClient", methods=frozenset({"GET"}))


def test_rules_over_claims_are_read_with_the_types_that_they_have_in_json(load: Load):
    rules = '"require": {"level": 3}, "write": {"groups": "*"}'
    settings = load(
        REQUIRE='{"groups": ["staff", "ops"], "email_verified": true}',
        REMOTE_APIS=f'[{{"path": "/a", "client": "apiClient", {rules}}}]',
    )
    [api, *_] = settings.remote_apis

    assert str(settings.require) == "groups is staff or ops, and email_verified is true"
    assert (str(api.require), str(api.write)) == ("level is 3", "groups is *")


@pytest.mark.parametrize(
    ("value", "read"),
    [("true", "True"), ("FALSE", "False"), ("1", "True"), ('{"groups": "staff"}', "groups is staff")],
)
def test_the_app_is_for_all_for_those_who_are_signed_in_or_for_some(load: Load, value: str, read: str):
    assert str(load(SPA_SIGNED_IN=value).spa_signed_in) == read


@pytest.mark.parametrize(
    ("value", "mistake"),
    [
        ("maybe", "must be true, false, or a rule over claims"),
        ("", "must be true, false, or a rule over claims"),
        ("[]", "must be true, false, or a rule over claims"),
        ("{", "is not JSON: "),
        ("{}", "the rule is empty: "),
    ],
)
def test_anything_else_is_a_mistake(mistakes: Mistakes, value: str, mistake: str):
    [line] = mistakes(SPA_SIGNED_IN=value)

    assert line.startswith(f"BFF_SPA_SIGNED_IN: {mistake}")


def test_without_rules_there_are_none(load: Load):
    settings = load(REMOTE_APIS='[{"path": "/a", "client": "apiClient"}]')

    assert settings.require is settings.remote_apis[0].require is settings.remote_apis[0].write is None


@pytest.mark.parametrize(
    ("rule", "mistake"),
    [
        ("{}", "the rule is empty: it would allow everything, or nothing"),
        ("[]", 'a rule is an object of claims and values, such as {"groups": "admins"}'),
        ('{"groups": [], "level": null}', "groups: there is no value; level: a value is text, a number"),
        ('{"groups": "a", "groups": "b"}', "'groups' is there twice"),
    ],
)
def test_a_rule_that_is_a_mistake_stops_the_start(mistakes: Mistakes, rule: str, mistake: str):
    apis = f'[{{"path": "/a", "client": "apiClient", "require": {rule}}}]'

    [own, of_api] = mistakes(REQUIRE=rule, REMOTE_APIS=apis)

    assert own.startswith(f"BFF_REQUIRE: {mistake}")
    assert of_api.startswith("BFF_REMOTE_APIS")
    assert mistake in of_api


@pytest.mark.parametrize("value", ["", "{", "staff"])
def test_a_rule_that_is_no_json_is_a_mistake_and_not_no_rule(mistakes: Mistakes, value: str):
    [line] = mistakes(REQUIRE=value)

    assert line.startswith("BFF_REQUIRE: is not JSON: ")


@pytest.mark.parametrize("path", ["/bff", "/bff/user", "/static/x", "/healthz"])
def test_the_path_of_a_remote_api_is_none_that_we_need_ourselves(mistakes: Mistakes, path: str):
    [line] = mistakes(REMOTE_APIS=json.dumps([{"path": path, "client": "apiClient"}]))

    assert "which the engine uses" in line


@pytest.mark.parametrize("path", ["api", "/", "/api/", "", "/a b", "/a?b", "/a%2Fb", "/a\nb", "//evil"])
def test_the_path_of_a_remote_api_begins_with_a_slash_and_ends_without(mistakes: Mistakes, path: str):
    [line] = mistakes(REMOTE_APIS=json.dumps([{"path": path, "client": "apiClient"}]))

    assert line.startswith("BFF_REMOTE_APIS[0][path]: ")


# Requests to the provider.


@pytest.mark.parametrize("name", ["PAR", "DPOP"])
def test_what_not_every_provider_can_do_is_off_unless_it_is_switched_on(load: Load, mistakes: Mistakes, name):
    assert getattr(load(), name.lower()) is False
    assert getattr(load(**{name: "true"}), name.lower()) is True
    [line] = mistakes(**{name: "perhaps"})
    assert line.startswith(f"BFF_{name}: ")


KINDS = ["none", "user", "client", "user_or_client", "user_or_none", "exchange"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_carries_a_token_of_the_kind(load: Load, kind: str):
    assert load(HTTP_CLIENTS=client(token=kind)).http_clients["orders"].token == kind


@pytest.mark.parametrize(
    ("kind", "requested"),
    [
        pytest.param("user", True, id="user"),
        pytest.param("user_or_client", True, id="user_or_client"),
        pytest.param("user_or_none", True, id="user_or_none"),
        pytest.param("client", False, id="client: the user's token has no part in it"),
        pytest.param("exchange", False, id="exchange: it is requested when the user's token is exchanged"),
    ],
)
def test_the_login_requests_scope_and_resource_of_clients_with_the_users_token(
    load: Load, kind: str, requested: bool
):
    settings = load(
        SCOPE="openid",
        HTTP_CLIENTS=client(token=kind, scope="orders.read", resource="https://orders.example"),
    )

    assert settings.login_scope == ("openid orders.read" if requested else "openid")
    assert settings.login_resources == (["https://orders.example"] if requested else [])


def test_without_such_clients_the_login_requests_the_scope_alone(load: Load):
    settings = load()

    assert settings.login_scope == "openid profile email offline_access"
    assert settings.login_resources == []


def test_each_scope_is_requested_once_and_those_of_the_settings_come_first(load: Load):
    wishes = {
        "a": {"scope": "orders.read  openid", "resource": "urn:b"},
        "b": {"scope": "billing orders.read", "resource": "https://a.example"},
        "c": {"resource": "urn:b"},
        "d": {},
    }
    clients = {name: {"base_url": "https://x", "token": "user", **wish} for name, wish in wishes.items()}
    settings = load(SCOPE=" openid  email ", HTTP_CLIENTS=json.dumps(clients))

    assert settings.login_scope == "openid email orders.read billing"
    assert settings.login_resources == ["https://a.example", "urn:b"]  # RFC 8707 §2: one parameter for each


@pytest.mark.parametrize("kind", ["user", "client", "user_or_client", "user_or_none", "exchange"])
@pytest.mark.parametrize("resource", ["https://a.example/v1?t=7", "urn:x", "api://f00d"])
def test_a_resource_is_any_absolute_uri_for_any_token(load: Load, kind: str, resource: str):
    settings = load(HTTP_CLIENTS=client(token=kind, resource=resource))

    assert settings.http_clients["orders"].resource == resource


@pytest.mark.parametrize(
    "resource", ["https://a.example#", "urn:a#b", "orders", "/orders", "//a.example", "a/b"]
)
def test_an_invalid_resource_is_reported(mistakes: Mistakes, resource: str):  # RFC 8707 §2
    assert mistakes(HTTP_CLIENTS=client(token="exchange", resource=resource)) == [
        "BFF_HTTP_CLIENTS[orders][resource]: a resource must be an absolute URI without a fragment"
    ]


@pytest.mark.parametrize("name", ["scope", "resource", "audience"])
def test_what_is_empty_is_not_there(load: Load, name: str):
    settings = load(HTTP_CLIENTS=client(token="exchange", **{name: ""}))

    assert getattr(settings.http_clients["orders"], name) is None


def test_an_audience_is_for_an_exchange(load: Load):  # RFC 8693 §2.1
    settings = load(HTTP_CLIENTS=client(token="exchange", audience="billing", scope="a", resource="urn:x"))

    assert settings.http_clients["orders"].audience == "billing"


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "exchange"])
def test_and_for_no_other_kind_of_token(mistakes: Mistakes, kind: str):
    [line] = mistakes(HTTP_CLIENTS=client(token=kind, audience="billing"))

    assert line.startswith("BFF_HTTP_CLIENTS[orders][audience]: goes with ")


def test_a_wrong_kind_of_token_is_reported_without_the_keys_that_depend_on_it(mistakes: Mistakes):
    [line] = mistakes(HTTP_CLIENTS=client(token="usr", audience="billing", scope="a", resource="urn:x"))

    assert line.startswith("BFF_HTTP_CLIENTS[orders][token]: ")


# Secrets.


@pytest.mark.parametrize("secret", ["", "x" * 32, "!~" * 100])
def test_the_secret_of_forward_auth_is_hard_to_guess_or_not_there(load: Load, secret: str):
    assert load(FORWARD_AUTH_SECRET=secret).forward_auth_secret.get_secret_value() == secret


@pytest.mark.parametrize("secret", ["x" * 31, "x y" * 20, "recognisable-é" * 3, "x" * 1025])
def test_another_one_is_a_mistake(mistakes: Mistakes, secret: str):
    assert mistakes(FORWARD_AUTH_SECRET=secret) == [
        "BFF_FORWARD_AUTH_SECRET: must be 32 printable ASCII characters or more: use `openssl rand -hex 32`"
    ]


def test_no_repr_shows_a_secret(load: Load):
    settings = load(
        SESSION_STORE="mongodb://user:recognisable-password@db.example/bff",
        FORWARD_AUTH_SECRET="recognisable-0123456789-0123456789",
        HTTP_CLIENTS=client(headers={"X-Api-Key": "recognisable-key"}),
    )

    for shown in (repr(settings), str(settings), repr(settings.http_clients)):
        assert "recognisable" not in shown
        assert KEY not in shown
        assert "kkkk" not in shown


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"ENCRYPTION_KEYS": "recognisable"}, id="a bad key"),
        pytest.param({"SESSION_STORE": "postgres://user:recognisable@db"}, id="another database"),
        pytest.param({"ISSUER": "https://user:recognisable@provider.example"}, id="a password in an address"),
        pytest.param({"ISSUER": "https://user:recognisable"}, id="a password where a port should be"),
        pytest.param({"ISSUER": "https://user:recognisable℀@x"}, id="a password in strange letters"),
        pytest.param({"HTTP_CLIENTS": client(headers={"X": ["recognisable"]})}, id="a header that is a list"),
        pytest.param({"HTTP_CLIENTS": client(headers="recognisable")}, id="headers that are a text"),
        pytest.param({"HTTP_CLIENTS": client(base_url="https://u:recognisable@x")}, id="a client's password"),
        pytest.param(
            {"HTTP_CLIENTS": client(token="user", resource="https://u:recognisable℀@x#")},
            id="a resource with a password in strange letters",
        ),
        pytest.param({"HTTP_CLIENTS": client(token="recognisable")}, id="a token where its kind should be"),
        pytest.param({"HTTP_CLIENTS": '{"a": {"headers": {"X": recognisable'}, id="half a client"),
        pytest.param({"CLIENT_SECERT": "recognisable"}, id="a secret under a wrong name"),
        pytest.param({"PORT": "recognisable"}, id="a secret in a wrong place"),
        pytest.param({"CLIENT_AUTH": "recognisable"}, id="a secret in another wrong place"),
        pytest.param({"ISSUER": None}, id="any other mistake"),
    ],
)
def test_no_message_shows_a_secret(mistakes: Mistakes, wrong):
    assert "recognisable" not in "\n".join(mistakes(**wrong))


def test_nor_does_the_traceback_of_the_error_lead_to_one(load: Load):
    with pytest.raises(SettingsError) as stopped:
        load(ENCRYPTION_KEYS="recognisable")

    assert stopped.value.__cause__ is None
    assert stopped.value.__context__ is None


# Secrets in files


@pytest.fixture
def secret_file(empty_folder: Path) -> Callable[[str | bytes], str]:
    def write(content: str | bytes) -> str:
        file = empty_folder / "secret"
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(file)

    return write


@pytest.mark.parametrize(
    ("field", "content"),
    [
        ("client_secret", "in-a-file"),
        ("forward_auth_secret", "f" * 32),
        ("encryption_keys", f"{KEY},{base64.b64encode(b'o' * 32).decode()}"),
        ("session_store", "mongodb://u:p@db.example/bff"),
        ("http_clients", '{"apiClient": {"base_url": "https://a.example", "headers": {"X-Api-Key": "k"}}}'),
    ],
)
def test_every_secret_setting_may_be_in_a_file(
    load: Load, secret_file: Callable[[str | bytes], str], field: str, content: str
):
    in_a_variable = getattr(load(**{field.upper(): content}), field)
    in_a_file = load(**{field.upper(): "", f"{field.upper()}_FILE": secret_file(f"{content}\n")})

    assert getattr(in_a_file, field) == in_a_variable


def test_the_settings_that_may_be_in_a_file_are_those_that_are_hidden():
    assert secret_fields(Settings) == [
        "forward_auth_secret",
        "client_secret",
        "session_store",
        "encryption_keys",
        "http_clients",
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: No such file or directory"),
        ("", "is empty"),
        (" \n", "is empty"),
        (b"\xff\xfe", "is not UTF-8"),
        ("x" * 70_000, "has more than 65536 bytes"),
    ],
    ids=["missing", "empty", "blank", "binary", "long"],
)
def test_a_file_without_a_secret_is_a_mistake_and_named_once(
    mistakes: Mistakes, secret_file: Callable[[str | bytes], str], content: str | bytes | None, said: str
):
    file = "/nowhere/secret" if content is None else secret_file(content)

    assert mistakes(CLIENT_SECRET=None, CLIENT_SECRET_FILE=file) == [f"BFF_CLIENT_SECRET_FILE: {file} {said}"]


def test_a_mistake_in_a_file_is_one_of_the_variable_that_names_it_and_does_not_show_the_secret(
    mistakes: Mistakes, secret_file: Callable[[str | bytes], str]
):
    [mistake] = mistakes(ENCRYPTION_KEYS=None, ENCRYPTION_KEYS_FILE=secret_file("recognisable"))

    assert mistake.startswith("BFF_ENCRYPTION_KEYS_FILE: ")
    assert "recognisable" not in mistake


def test_a_secret_in_two_places_is_a_mistake(mistakes: Mistakes, secret_file: Callable[[str | bytes], str]):
    assert mistakes(CLIENT_SECRET_FILE=secret_file("x")) == [
        "BFF_CLIENT_SECRET_FILE: BFF_CLIENT_SECRET is set as well: remove one of them"
    ]


def test_no_other_setting_may_be_in_a_file(mistakes: Mistakes):
    [mistake] = mistakes(BASE_URL_FILE="/run/secrets/base-url")

    assert mistake.startswith("BFF_BASE_URL_FILE: there is no such setting")


# What the command prints


async def test_every_setting_is_printed_with_its_source_and_without_its_secrets(
    load: Load,
    empty_folder: Path,
    secret_file: Callable[[str | bytes], str],
    capsys: pytest.CaptureFixture[str],
):
    (empty_folder / ".env").write_text("BFF_PORT=9999\n")
    clients = '{"orders": {"base_url": "https://o.example", "headers": {"X-Api-Key": "recognisable-key"}}}'
    settings = load(
        CLIENT_SECRET=None, CLIENT_SECRET_FILE=secret_file("recognisable-file"), HTTP_CLIENTS=clients
    )
    await settings_command.run(settings, Namespace(json=False))
    printed = capsys.readouterr().out

    lines = dict(line.split("\t", 1) for line in printed.splitlines())
    assert lines.keys() == {f"BFF_{field.upper()}" for field in Settings.model_fields}
    assert lines["BFF_PORT"] == "9999\t.env"
    assert lines["BFF_ISSUER"] == '"https://provider.example"\tenvironment'
    assert lines["BFF_CLIENT_SECRET"] == '"(hidden)"\tfile'
    assert lines["BFF_FORWARD_AUTH_SECRET"] == '""\tdefault'
    assert "recognisable" not in printed
    assert KEY not in printed


async def test_machines_read_the_settings_as_json(load: Load, capsys: pytest.CaptureFixture[str]):
    await settings_command.run(load(PORT="9000"), Namespace(json=True))

    assert json.loads(capsys.readouterr().out)["BFF_PORT"] == {"value": 9000, "source": "environment"}


# The name of cookies


@pytest.mark.parametrize("name", ["bff", "Shop-2", "a.b_c", 64 * "x"])
def test_a_name_of_cookies_is_used_as_it_is(load: Load, name: str):
    assert load(COOKIE_NAME=name).cookie_name == name


def test_without_one_the_project_names_its_cookies(load: Load):
    assert load().cookie_name == "bff"


@pytest.mark.parametrize(
    "name", ["", "a b", "a;b", "a=b", "é", 65 * "x", "__Host-bff", "__secure-bff", "a\tb"]
)
def test_a_name_of_cookies_is_refused_that_a_browser_or_a_proxy_reads_differently(
    mistakes: Mistakes, name: str
):
    [line] = mistakes(COOKIE_NAME=name)

    assert line.startswith("BFF_COOKIE_NAME: ")
