"""Rules of every route: X-CSRF, security headers, no 500, no token in an answer or in the log."""

from __future__ import annotations

from app.bff.testing import RunningApp, checks


async def test_every_route_keeps_the_rules(app: RunningApp) -> None:
    await checks.check_routes(app)
