"""The Jinja2 environment of our pages."""

from __future__ import annotations

from pathlib import Path

import jinja2


def page_environment(folder: Path, *, debug: bool) -> jinja2.Environment:
    """Return the environment: everything is escaped, and a name that is not there is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        auto_reload=debug,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False}  # people read it
    return environment
