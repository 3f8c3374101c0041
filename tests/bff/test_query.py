"""Query parameters: each one once, as it was sent."""

from __future__ import annotations

import pytest

from app.bff.errors import BadRequest
from app.bff.web.query import single_values


def test_each_parameter_has_the_value_that_was_sent():
    assert single_values({"state": [b" s "], "iss": [b""], "name": ["Zoë".encode()]}) == {
        "state": " s ",
        "iss": "",
        "name": "Zoë",
    }


def test_no_query_has_no_parameters():
    assert single_values({}) == {}


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        pytest.param([b"a", b"b"], "more than once", id="there twice"),
        pytest.param([b"a", b"a"], "more than once", id="there twice with the same value"),
        pytest.param([b"\xff"], "not text", id="not UTF-8"),
    ],
)
def test_a_query_is_refused_when_a_parameter_is(values, reason):
    with pytest.raises(BadRequest, match=f"'code' is {reason}|'code' is there {reason}"):
        single_values({"code": values})


def test_a_refusal_names_the_parameter_shortly_and_never_its_value():
    with pytest.raises(BadRequest) as refused:
        single_values({"x" * 1000: [b"secret", b"secret"]})

    assert "secret" not in str(refused.value)
    assert len(str(refused.value)) < 100
