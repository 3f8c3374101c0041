"""The public interface, `from app.bff import …`: documented, with examples that pass mypy and run.

An example is an indented block after `Example::` in the docstring of a public name or of one of its public
methods, or a doctest (`>>>`). It may use every public name without importing it.
"""

from __future__ import annotations

import ast
import asyncio
import doctest
import inspect
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from typing import Any

import pytest
from jinja2 import ChoiceLoader, DictLoader

import app.bff
from app.bff import Hooks
from app.bff.dev.api import DemoApi
from app.bff.dev.provider import Provider
from app.bff.errors import SettingsError, UsageError
from tests.bff.harness import (
    Browser,
    Clock,
    RunningApp,
    make_settings,
    new_browser,
    running_app,
    sign_in,
    wait_until,
)
from tests.bff.websocket_clients import open_websocket

ROOT = Path(__file__).parents[2]
PUBLIC = {name: getattr(app.bff, name) for name in app.bff.__all__}
NOT_DOCUMENTED_HERE = {"API_ERRORS", "url"}  # a tuple has no docstring, and Tornado documents its own
ERRORS = {name for name, value in PUBLIC.items() if inspect.isclass(value) and issubclass(value, Exception)}

_EXAMPLE = re.compile(r"^( *)Example::\n((?:\n|\1 +.*(?:\n|$))+)", re.MULTILINE)


# What is public


def names_imported_from_the_engine(file: Path) -> Iterator[str]:
    """`app.bff.Name` for each name, and the module for `import …`."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("app.bff"):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("app.bff"))


def files_of_the_owner() -> list[Path]:
    """The Python files outside the folders named `bff`."""
    files = [*(ROOT / "app").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
    return [file for file in files if "bff" not in file.relative_to(ROOT).parts]


def test_outside_the_engine_only_public_names_are_imported_from_it():
    public = {f"app.bff.{name}" for name in app.bff.__all__}
    for file in files_of_the_owner():
        own = {
            name
            for name in names_imported_from_the_engine(file)
            if not (file.is_relative_to(ROOT / "tests") and name.startswith("app.bff.testing"))
        }
        assert own <= public, file


def test_the_list_of_public_names_is_what_is_imported():
    imports = [
        node for node in ast.parse(inspect.getsource(app.bff)).body if isinstance(node, ast.ImportFrom)
    ]

    assert sorted(alias.name for node in imports for alias in node.names) == sorted(app.bff.__all__)


@pytest.mark.parametrize("name", sorted(PUBLIC.keys() - NOT_DOCUMENTED_HERE))
def test_a_public_name_has_a_docstring_of_its_own(name: str):
    value = PUBLIC[name]
    assert value.__doc__
    assert not (inspect.isclass(value) and value.__doc__ == value.__base__.__doc__)
    assert (name in ERRORS) or list(examples_of(name, value)), f"{name} has no example"


# The examples


@dataclass(frozen=True)
class Example:
    """`name` is `Class`, `Class.method` or `function`; a doctest is a source for mypy only."""

    name: str
    source: str
    is_doctest: bool = False

    @property
    def module(self) -> str:
        return f"example_{self.name.replace('.', '_').lower()}" + ("_doctest" if self.is_doctest else "")


def examples_of(name: str, value: Any) -> Iterator[Example]:
    docstring = inspect.cleandoc(value.__doc__ or "")
    for match in _EXAMPLE.finditer(docstring):
        yield Example(name, dedent(match[2]).strip() + "\n")
    if lines := doctest.DocTestParser().get_examples(docstring):
        yield Example(name, "".join(line.source for line in lines), is_doctest=True)
    if inspect.isclass(value):
        for method, function in methods_of(value).items():
            yield from examples_of(f"{name}.{method}", function)


def methods_of(public: type) -> dict[str, Any]:
    """The public methods that a public class defines, or inherits from a class of the engine that is not."""
    bases = [base for base in public.__mro__ if base is public or base not in PUBLIC.values()]
    own = [base for base in bases if base.__module__.startswith("app.bff.")]
    found = {name: value for base in own for name, value in vars(base).items() if not name.startswith("_")}
    return {name: value for name, value in found.items() if inspect.isfunction(value)}


EXAMPLES = {
    example.module: example
    for name, value in PUBLIC.items()
    if name not in NOT_DOCUMENTED_HERE
    for example in examples_of(name, value)
    if not example.name.startswith(("ApiHandler.", "SocketHandler."))  # those of BaseHandler, inherited
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each example as a module, in which the public names are known."""
    folder = tmp_path_factory.mktemp("examples")
    for module, example in EXAMPLES.items():
        (folder / f"{module}.py").write_text(f"from app.bff import *\n\n{example.source}")
    return folder


def imported(folder: Path, name: str) -> ModuleType:
    module = EXAMPLES[f"example_{name.replace('.', '_').lower()}"].module
    spec = spec_from_file_location(module, folder / f"{module}.py")
    assert spec is not None
    assert spec.loader is not None
    example = module_from_spec(spec)
    spec.loader.exec_module(example)
    return example


def test_mypy_accepts_every_example(folder: Path):
    files = [str(folder / f"{module}.py") for module in EXAMPLES]
    strict = ["--strict", "--config-file", str(ROOT / "mypy.ini"), "--cache-dir", str(ROOT / ".mypy_cache")]
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", *strict, *files], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("name", [example.name for example in EXAMPLES.values() if example.is_doctest])
def test_a_doctest_shows_what_is_returned(name: str):
    value = PUBLIC[name]
    [found] = doctest.DocTestFinder(recurse=False).find(value, name, globs=dict(PUBLIC))

    assert doctest.DocTestRunner().run(found).failed == 0


# Handlers that run: which one, with which request, and what is answered to alice

TEMPLATES = {"profile.html": "{{ claims.name }}", "cart.html": "{{ cart_size }} things, {{ app_name }}"}
HANDLERS: list[tuple[str, str, str, dict[str, Any], int, Any]] = [
    ("BaseHandler", "Profile", "GET", {}, 200, "Alice Adams"),
    ("BaseHandler.page_context", "Cart", "GET", {}, 200, "3 things, Tornado BFF"),
    ("BaseHandler.get_user_access_token", "Report", "GET", {}, 200, "length"),
    ("BaseHandler.get_client_access_token", "Stock", "GET", {}, 200, "length"),
    ("BaseHandler.revoke_user_refresh_token", "Unlink", "DELETE", {}, 204, ""),
    ("BaseHandler.create_client", "Todos", "GET", {}, 200, "Sign in"),
    (
        "BaseHandler.json_body",
        "Orders",
        "POST",
        {"json": {"article": "x", "quantity": 3}},
        200,
        '"ordered": 3',
    ),
    ("BaseHandler.json_body", "Orders", "POST", {"json": {"article": "x", "quantity": 0}}, 422, "#/quantity"),
    ("ApiHandler", "Me", "GET", {}, 200, '"subject": "alice"'),
    ("ApiClient", "Todos", "GET", {}, 200, "Sign in"),
    ("ApiClient.websocket", "Greeting", "GET", {}, 200, "Hello"),
    ("TypedClient", "Titles", "GET", {}, 200, "Sign in"),
    ("authenticated", "Payments", "POST", {}, 401, "insufficient_user_authentication"),
    ("authenticated", "Refunds", "GET", {}, 403, '"code": "forbidden"'),
    ("BaseHandler.renew_claims", "Grant", "POST", {}, 200, '"granted": true'),
    ("BaseHandler.may", "Order", "GET", {}, 200, '"can_refund": true'),
    ("BaseHandler.flash", "Save", "POST", {}, 302, ""),
    ("SessionData", "Basket", "POST", {}, 200, '["tulips"]'),
    ("SessionData.get", "Step", "GET", {}, 200, "1"),
    ("SessionData.set", "NextStep", "POST", {}, 204, ""),
    ("SessionData.delete", "EmptyBasket", "DELETE", {}, 204, ""),
    ("session_entries", "Devices", "GET", {}, 200, '"current": true'),
    ("Session", "Name", "GET", {}, 200, '"Alice Adams"'),
    ("AppError", "Buy", "POST", {}, 409, "out_of_stock"),
    ("BadRequest", "Search", "GET", {}, 400, "q is missing"),
    ("Unauthorized", "Suggestions", "GET", {}, 200, "Sign in"),
    ("Forbidden", "Admin", "GET", {}, 403, "for administrators"),
]


@pytest.fixture
async def app_with_templates(app: RunningApp) -> RunningApp:
    loader = app.services.pages.loader
    assert loader is not None
    app.services.pages.loader = ChoiceLoader([loader, DictLoader(TEMPLATES)])
    return app


@pytest.mark.parametrize(("name", "handler", "method", "options", "status", "text"), HANDLERS)
async def test_a_handler_answers(
    app_with_templates: RunningApp,
    browser: Browser,
    folder: Path,
    name: str,
    handler: str,
    method: str,
    options: dict[str, Any],
    status: int,
    text: str,
):
    example = imported(folder, name)
    app_with_templates.tornado.add_handlers(".*", [("/example", getattr(example, handler))])
    await browser.login("alice")
    response = await browser.fetch("/example", method, **options)

    assert response.status_code == status, response.text
    assert text in response.text


async def test_a_handler_with_a_path_argument_answers(app: RunningApp, browser: Browser, folder: Path):
    app.tornado.add_handlers(".*", [("/orders/(.*)", imported(folder, "NotFound").Order)])

    assert (await browser.fetch("/orders/17")).json() == "tulips"
    assert (await browser.fetch("/orders/18")).json()["detail"] == "There is no order 18."


async def test_a_socket_answers(app: RunningApp, browser: Browser, folder: Path):
    app.tornado.add_handlers(".*", [("/echo", imported(folder, "SocketHandler").Echo)])
    await browser.login("alice")
    async with open_websocket(browser, "/echo") as socket:
        await socket.send_str("Hello")

        assert await socket.receive_str() == "Hello"


async def test_what_the_lifespan_of_run_yields_reaches_its_handler(
    provider: Provider, api: DemoApi, clock: Clock, folder: Path
):
    example = imported(folder, "run")
    async with running_app(provider, api, clock=clock) as app, example.lifespan(app.services) as state:
        await asyncio.sleep(0)  # the job runs for the first time
        app.tornado.settings["state"] = state
        app.tornado.add_handlers(".*", example.ROUTES)
        browser = Browser(app)

        assert (await browser.fetch("/prices")).json() == {"tulips": 3}
        await browser.http.aclose()


class Shop:
    """The state of an application whose hooks are in the docstrings."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self.forgotten: list[str] = []

    async def customer(self, subject: str) -> int | None:
        return 17 if subject == "alice" else None

    async def forget_baskets(self, subject: str) -> None:
        self.forgotten.append(subject)

    def rename(self, subject: str, name: str) -> None:
        self.names[subject] = name


@asynccontextmanager
async def hooked(
    provider: Provider, api: DemoApi, clock: Clock, hooks: Any
) -> AsyncIterator[tuple[Shop, Browser]]:
    shop = Shop()
    async with (
        running_app(provider, api, clock=clock, hooks=hooks, state=shop) as app,
        new_browser(app) as browser,
    ):
        yield shop, browser


async def test_the_hooks_of_a_shop_know_its_customers(
    provider: Provider, api: DemoApi, clock: Clock, folder: Path
):
    hooks = imported(folder, "Hooks").ShopHooks()
    async with hooked(provider, api, clock, hooks) as (shop, browser):
        session = await sign_in(browser.app, browser)
        await browser.logout()
        await wait_until(lambda: bool(shop.forgotten))
        login = await browser.start_login(prompt="login")
        refused = await browser.get(await browser.choose(login, "bob"))

    assert session.claims["customer_number"] == 17
    assert shop.forgotten == ["alice"]
    assert "There is no customer account for you yet." in refused.text


@pytest.mark.parametrize(("groups", "roles"), [(["staff"], ["editor"]), ([], [])])
async def test_a_hook_makes_roles_of_groups(
    groups: list[str], roles: list[str], provider: Provider, api: DemoApi, clock: Clock, folder: Path
):
    provider.overrides["id_token"] = {"groups": groups}
    hooks = imported(folder, "Hooks.on_sign_in").Roles()
    async with hooked(provider, api, clock, hooks) as (_, browser):
        session = await sign_in(browser.app, browser)

    assert session.claims["roles"] == roles


async def test_hooks_hear_of_changed_claims_and_of_the_end(
    provider: Provider, api: DemoApi, clock: Clock, folder: Path, capsys: pytest.CaptureFixture[str]
):
    class All(Hooks):
        on_refresh = imported(folder, "HookContext").NewNames.on_refresh
        on_sign_out = imported(folder, "Hooks.on_sign_out").Log.on_sign_out

    async with hooked(provider, api, clock, All()) as (shop, browser):
        await sign_in(browser.app, browser)
        provider.overrides["id_token"] = {"name": "Alice Baker"}
        clock.advance(301)
        await browser.fetch("/api/echo")
        await browser.logout()
        assert browser.app.services.hooks
        await browser.app.services.hooks.drain()

    assert shop.names == {"alice": "Alice Baker"}
    assert "signed_out" in capsys.readouterr().out


async def test_a_hook_renews_what_it_has_made_of_groups(
    provider: Provider, api: DemoApi, clock: Clock, folder: Path
):
    hooks = imported(folder, "Hooks.on_refresh").FreshRoles()
    async with hooked(provider, api, clock, hooks) as (_, browser):
        await sign_in(browser.app, browser)
        provider.overrides["id_token"] = {"groups": ["staff"]}
        clock.advance(301)
        await browser.fetch("/api/echo")
        session = await browser.app.session_of(browser)

    assert session is not None
    assert session.claims["roles"] == ["editor"]


async def test_a_job_gets_the_token_of_a_user_by_the_ref_of_the_session(
    app: RunningApp, browser: Browser, folder: Path, capsys: pytest.CaptureFixture[str]
):
    example = imported(folder, "Services")
    async with example.lifespan(app.services) as queue:
        app.tornado.settings["state"] = queue
        app.tornado.add_handlers(".*", [("/export", example.Export)])
        await browser.login("alice")
        queue.put_nowait("the ref of a session that is over")

        assert (await browser.fetch("/export", "POST")).status_code == 202
        async with asyncio.timeout(5):
            while not (printed := capsys.readouterr().out):  # noqa: ASYNC110  waits for no time to pass
                await asyncio.sleep(0)

    session = await app.session_of(browser)
    assert session is not None
    assert int(printed) == len(session.tokens.access_token)


async def test_a_lifespan_may_refuse_settings(app: RunningApp, folder: Path):
    with pytest.raises(SettingsError, match="BFF_BASE_URL: must be https"):
        async with imported(folder, "SettingsError").lifespan(app.services):
            pass


def test_settings_of_an_example_are_read(folder: Path):
    clients = imported(folder, "HttpClientSettings").HTTP_CLIENTS
    remote_apis = imported(folder, "RemoteApiSettings").REMOTE_APIS
    settings = make_settings(http_clients=clients, remote_apis=remote_apis)
    own = imported(folder, "BffSettings").Settings

    assert settings.http_clients["orders"].token == "user"
    assert settings.remote_apis[0].methods == {"GET", "POST"}
    assert own.model_fields["page_size"].default == 20
    assert list(own.default_http_clients) == ["orders"]


async def test_a_handler_reads_settings_typed_as_the_class_of_the_application(
    provider: Provider, api: DemoApi, clock: Clock, folder: Path
):
    example = imported(folder, "BffSettings")
    async with running_app(provider, api, clock=clock, settings_class=example.Settings) as app:
        app.tornado.add_handlers(".*", [("/page-size", example.PageSize)])
        browser = Browser(app)

        assert (await browser.fetch("/page-size")).json() == 20
        await browser.http.aclose()


async def test_settings_of_another_class_than_the_running_one_are_a_mistake_in_the_code(
    app: RunningApp, folder: Path
):
    with pytest.raises(UsageError, match=r"of the class tests\.bff\.application\.settings\.Settings"):
        imported(folder, "BffSettings").Settings.of(app.services)


def test_every_example_is_run():
    source = Path(__file__).read_text()
    elsewhere = set(re.findall(r'imported\(folder, "([\w.]+)"\)', source))
    run = elsewhere | {row[0] for row in HANDLERS}

    assert {example.name for example in EXAMPLES.values() if not example.is_doctest} == run
