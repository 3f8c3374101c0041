"""Backoff: polls of a leased session; for the others see test_breaker and test_revocation."""

from __future__ import annotations

from itertools import islice, pairwise

import pytest

from app.bff.backoff import lease_poll_seconds


def test_polls_of_a_leased_session_begin_at_20_ms_and_grow_by_half_to_half_a_second():
    waits = list(islice(lease_poll_seconds(), 20))

    assert waits[:3] == pytest.approx([0.02, 0.03, 0.045])
    assert all(earlier < later or later == 0.5 for earlier, later in pairwise(waits))
    assert waits[-1] == 0.5
