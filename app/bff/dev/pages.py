"""The pages that a person sees at the provider."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping
from hashlib import sha256
from html import escape
from string import Template

from app.bff.dev.registrations import User
from app.bff.dev.server import Answer

HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
}

LAYOUT = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Development provider</title>
<style>
:root {
  color-scheme: light dark;
  --page: light-dark(#f3f4f6, #14161a); --card: light-dark(#fff, #1e2127);
  --text: light-dark(#1c1f24, #e7e9ec); --soft: light-dark(#5b6470, #9aa4b1);
  --line: light-dark(#d9dde3, #343a44); --edge: light-dark(#848d99, #6f7986);
  --accent: light-dark(#2455c3, #8fb1ff);
}
* { box-sizing: border-box }
body {
  margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 1rem;
  background: var(--page); color: var(--text); font: 1rem/1.5 system-ui, sans-serif;
}
main {
  width: 100%; max-width: 25rem; padding: 2rem; background: var(--card);
  border: 1px solid var(--line); border-radius: .75rem;
}
h1 { margin: 0 0 .25rem; font-size: 1.375rem; line-height: 1.25 }
p { margin: .5rem 0 0; color: var(--soft); overflow-wrap: anywhere }
form { display: grid; gap: .625rem; margin-top: 1.5rem }
button {
  padding: .75rem 1rem; font: inherit; font-weight: 600; text-align: left; cursor: pointer;
  color: var(--text); background: transparent; border: 1px solid var(--edge); border-radius: .5rem;
}
button:hover { border-color: var(--accent); color: var(--accent) }
button:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px }
button.quiet { font-weight: 400; color: var(--soft); border-color: transparent }
small {
  display: block; margin-top: 1.5rem; padding-top: 1rem; color: var(--soft);
  border-top: 1px solid var(--line)
}
</style>
</head>
<body>
<main>
$content
</main>
</body>
</html>
""")

_SUBMIT_SCRIPT = "document.forms[0].submit()"
_SUBMIT = f"'sha256-{b64encode(sha256(_SUBMIT_SCRIPT.encode()).digest()).decode()}'"
NOTE = "<small>For development only: it asks for no password and forgets everything when it stops.</small>"


def login(client_id: str, users: Iterable[User]) -> Answer:
    """The form has no action: it posts to its own URL, which carries the authorization request."""
    buttons = "\n".join(
        f'<button name="sub" value="{escape(user.sub)}">Continue as {escape(user.name)}</button>'
        for user in users
    )
    return _page(
        f"<h1>Development provider</h1>\n<p>Sign in to <strong>{escape(client_id)}</strong></p>\n"
        f'<form method="post">\n{buttons}\n'
        f'<button class="quiet" name="deny" value="yes">Deny</button>\n</form>\n{NOTE}'
    )


def form_post(action: str, fields: Mapping[str, object]) -> Answer:
    """The response as a form that submits itself (OAuth 2.0 Form Post Response Mode §2)."""
    inputs = "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(str(value))}">'
        for name, value in fields.items()
    )
    page = _page(
        f'<form method="post" action="{escape(action)}">{inputs}<button>Continue</button></form>'
        f"<script>{_SUBMIT_SCRIPT}</script>"
    )
    return page.plus(
        {"Content-Security-Policy": f"{HEADERS['Content-Security-Policy']}; script-src {_SUBMIT}"}
    )


def signed_out() -> Answer:
    return _page(f"<h1>You are signed out</h1>\n<p>You can close this page.</p>\n{NOTE}")


def refused(reason: str) -> Answer:
    """A mistake that must not be sent to the redirect URI, because that may not be the client's."""
    return _page(f"<h1>That did not work</h1>\n<p>{escape(reason)}</p>\n{NOTE}", 400)


def _page(content: str, status: int = 200) -> Answer:
    return Answer(status, LAYOUT.substitute(content=content).encode(), HEADERS)
