"""Descriptions of browsers, from User-Agent."""

from __future__ import annotations

import pytest

from app.bff.web.user_agents import describe_user_agent

WEBKIT = "AppleWebKit/537.36 (KHTML, like Gecko)"


@pytest.mark.parametrize(
    ("user_agent", "words"),
    [
        (f"Mozilla/5.0 (X11; Linux x86_64) {WEBKIT} Chrome/130.0.0.0 Safari/537.36", "Chrome on Linux"),
        ("Mozilla/5.0 (Windows NT 10.0; rv:131.0) Gecko/20100101 Firefox/131.0", "Firefox on Windows"),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)"
            " Version/17.5 Mobile/15E148 Safari/604.1",
            "Mobile Safari on iPhone",
        ),
        ("", "An unknown browser"),
        ("\x00 <script>", "An unknown browser"),
    ],
)
def test_a_browser_is_called(user_agent: str, words: str):
    assert describe_user_agent(user_agent) == words


def test_only_the_beginning_of_a_long_user_agent_is_parsed():
    assert describe_user_agent("x" * 500 + "Firefox/131.0") == "An unknown browser"
