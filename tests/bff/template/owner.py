"""What the owner of a project does to it: all that the manual says, in the files that the manual names."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

FILES = {
    "app/clients/__init__.py": "",
    "app/clients/orders.py": '''
        """The API of orders."""

        from __future__ import annotations

        from typing import Any

        from app.bff import TypedClient


        class OrdersClient(TypedClient):
            name = "orders"

            async def all(self, size: int) -> list[dict[str, Any]]:
                async with self.api.get("orders", params={"size": size}, raise_for_status=True) as response:
                    return list(await response.json())
        ''',
    "app/handlers/orders.py": '''
        """Orders: a page with a form, data for scripts, and a WebSocket."""

        from __future__ import annotations

        from typing import Any

        from app.bff import ApiHandler, BaseHandler, SocketHandler, authenticated
        from app.clients.orders import OrdersClient
        from app.settings import Settings


        class OrdersPage(BaseHandler):
            @authenticated
            async def get(self) -> None:
                settings = self.services.settings
                assert isinstance(settings, Settings)
                orders = await self.create_client(OrdersClient).all(settings.page_size)
                self.render_page("orders.html", orders=orders, jobs=self.state.runs)

            @authenticated
            async def post(self) -> None:
                self.redirect("/orders")


        class OrdersData(ApiHandler):
            @authenticated
            async def post(self) -> None:
                self.write({"ordered": True})


        class OrdersSocket(SocketHandler):
            def on_message(self, message: Any) -> None:
                self.write_message(message)
        ''',
    "app/jobs.py": '''
        """Work in the background, as long as the process lives."""

        from __future__ import annotations

        from collections.abc import AsyncIterator
        from contextlib import asynccontextmanager


        class Jobs:
            def __init__(self) -> None:
                self.runs = 0


        @asynccontextmanager
        async def running_jobs() -> AsyncIterator[Jobs]:
            jobs = Jobs()
            jobs.runs += 1
            yield jobs
        ''',
    "templates/orders.html": """
        {% extends "base.html" %}
        {% block main %}
        <h1>Orders</h1>
        {% for order in orders %}
          <p>{{ order.title }}, {{ jobs }} job</p>
        {% endfor %}
        {% endblock %}
        """,
    "static/css/orders.css": "h1 { color: teal; }\n",
    "tests/test_orders.py": '''
        """Orders."""

        from __future__ import annotations

        from app.bff.testing import Browser, StandInApi


        async def test_orders_are_listed(alice: Browser, api: StandInApi) -> None:
            api.answers("GET", "orders", json=[{"title": "Tea"}])

            assert "Tea, 1 job" in (await alice.get("/orders")).text
            assert api.requests[-1].query == {"size": "20"}


        async def test_orders_are_for_people_who_are_logged_in(browser: Browser) -> None:
            assert (await browser.get("/orders")).headers["Location"] == "/bff/login?returnUrl=%2Forders"


        async def test_the_remote_api_carries_the_user_s_token(alice: Browser, api: StandInApi) -> None:
            api.answers("GET", "tea", json={"stock": 3})

            assert (await alice.fetch("/shop/tea")).json() == {"stock": 3}
            assert api.requests[-1].user == "alice"
        ''',
    "docs/orders.md": "# How orders are stored\n",
}
OWN_PAGES = {
    "app/handlers/__init__.py": "",
    "app/handlers/pages.py": '''
        """The home page."""

        from app.bff import BaseHandler


        class Home(BaseHandler):
            def get(self) -> None:
                self.render_page("home.html")
        ''',
    "templates/base.html": """
        <!doctype html>
        <html lang="en">
        <title>{% block title %}Tea{% endblock %}</title>
        <main>{% block main %}{% endblock %}</main>
        </html>
        """,
    "templates/home.html": """
        {% extends "base.html" %}
        {% block main %}Tea{% endblock %}
        """,
    "static/css/app.css": "p {\n}\n",
}
# Each line is put behind (or before) a line of the template that stands in the file exactly once.
LINES = {
    "app/main.py": [
        ("from app.bff import ", "from app.handlers.orders import OrdersData, OrdersPage, OrdersSocket"),
        ("from app.handlers.pages import ", "from app.jobs import Jobs, running_jobs"),
        ("ROUTES = [", '    url(r"/orders(?:/.*)?", OrdersPage),'),
        ("ROUTES = [", '    url(r"/data/orders", OrdersData),'),
        ("ROUTES = [", '    url(r"/socket/orders", OrdersSocket),'),
    ],
    "app/settings.py": [
        (
            "HTTP_CLIENTS = {",
            '    "orders": HttpClientSettings(base_url="http://127.0.0.1:9/", token="user"),',
        ),
        ("    page_layout", "    page_size: int = 20"),
    ],
    "requirements/app.txt": [("# ", "tomli-w>=1")],
    "requirements/dev.txt": [("# ", "hypothesis>=6")],
    "static/css/app.css": [("}", "p.order { font-weight: bold; }")],
    "README.md": [("# ", "\nSells tea.")],
    ".gitignore": [("# Secrets", "/private/")],
    "deploy/nginx.conf": [("", "# Our server is named tea.example.com.")],
}
REPLACED = {
    "app/main.py": [
        ("AsyncIterator[None]", "AsyncIterator[Jobs]"),
        ("    yield None\n", "    async with running_jobs() as jobs:\n        yield jobs\n"),
    ],
    "app/settings.py": [
        (
            "default_remote_apis = REMOTE_APIS",
            'default_remote_apis = (*REMOTE_APIS, RemoteApiSettings(path="/shop", client="orders"))',
        ),
    ],
    "pyproject.toml": [('version = "0.1.0"', 'version = "1.2.3"')],
}


def add_orders(project: Path) -> None:
    """A page, a form, data, a socket, clients, a remote API, a setting, a job, requirements, css, prose."""
    for name, text in FILES.items():
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_text(dedent(text).lstrip("\n"))
    for name, lines in LINES.items():
        for behind, line in lines:
            edit(project / name, lambda text, behind=behind, line=line: with_line(text, behind, line))
    for name, pairs in REPLACED.items():
        for old, new in pairs:
            assert old in (project / name).read_text()
            edit(project / name, lambda text, old=old, new=new: text.replace(old, new))


def rename_words(project: Path) -> None:
    """\"Sign in\" becomes \"Log in\" wherever the owner's pages and tests say it."""
    texts = [*project.glob("templates/*.html"), *project.glob("static/js/*"), *project.glob("tests/*.py")]
    for file in texts:
        edit(file, lambda text: text.replace("Sign in", "Log in").replace("Sign out", "Log out"))


def delete_demo(project: Path) -> None:
    """Nothing that was generated stays but the test of all routes: the owner's pages are their own."""
    patterns = ("templates/*.html", "static/js/*", "static/images/*", "static/css/*", "app/handlers/*.py")
    for file in [file for pattern in patterns for file in project.glob(pattern)]:
        file.unlink()
    for name in ("test_api.py", "test_journey.py", "test_pages.py"):
        (project / "tests" / name).unlink()
    for name, text in OWN_PAGES.items():
        (project / name).write_text(dedent(text).lstrip("\n"))
    edit(project / "app/main.py", lambda text: re.sub(r"(?m)^    url\((?!r\"/\",).*\n", "", text))
    edit(
        project / "app/main.py",
        lambda text: re.sub(r"(?m)(^from app.handlers.pages import) .*", r"\1 Home", text),
    )


def edit(file: Path, change: Callable[[str], str]) -> None:
    file.write_text(change(file.read_text()))


def with_line(text: str, behind: str, line: str) -> str:
    lines = text.splitlines()
    number = next(number for number, found in enumerate(lines, 1) if found.startswith(behind))
    return "\n".join([*lines[:number], line, *lines[number:]]) + "\n"
