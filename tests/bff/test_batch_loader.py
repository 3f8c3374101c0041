"""BatchLoader: at most one query at a time, and each caller reads what was there when it called."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextvars import ContextVar

import pytest

from app.bff.batch_loader import BatchLoader
from tests.bff.harness import wait_until


class Library:
    """Looks up slowly: each answer waits until the test lets it go."""

    def __init__(self) -> None:
        self.shelf = {"a": "A", "b": "B", "c": "C"}
        self.queries: list[list[str]] = []
        self.on_fire = True
        self.closed = asyncio.Event()
        self.closed.set()

    async def look_up(self, keys: Sequence[str]) -> dict[str, str]:
        self.queries.append(sorted(keys))
        found = {key: self.shelf[key] for key in keys if key in self.shelf}
        await self.closed.wait()
        if self.on_fire and "burning" in keys:
            raise OSError("the library is on fire")
        return found


@pytest.fixture
def library() -> Library:
    return Library()


@pytest.fixture
def batches(library: Library) -> BatchLoader[str]:
    return BatchLoader(library.look_up)


async def while_busy(library: Library, batches: BatchLoader[str]) -> asyncio.Task[str | None]:
    """A caller requests `a`, and the query takes its time."""
    library.closed.clear()
    first = asyncio.create_task(batches.get("a"))
    await wait_until(lambda: library.queries)
    return first


async def test_a_known_key_is_found_and_an_unknown_one_is_none(batches: BatchLoader[str]):
    assert await asyncio.gather(*map(batches.get, "abx")) == ["A", "B", None]


async def test_keys_requested_during_a_query_wait_for_the_next_one(
    library: Library, batches: BatchLoader[str]
):
    first = await while_busy(library, batches)
    others = [asyncio.create_task(batches.get(key)) for key in "bcbcbc"]
    await asyncio.sleep(0)
    library.closed.set()

    assert await first == "A"
    assert await asyncio.gather(*others) == ["B", "C"] * 3
    assert library.queries == [["a"], ["b", "c"]]


async def test_a_read_after_a_write_sees_the_write(library: Library, batches: BatchLoader[str]):
    first = await while_busy(library, batches)
    library.shelf["a"] = "newer"
    second = asyncio.create_task(batches.get("a"))
    await asyncio.sleep(0)
    library.closed.set()

    assert (await first, await second) == ("A", "newer")


@pytest.fixture
def hasty(library: Library) -> BatchLoader[str]:
    """Every query that is not answered at once is late."""
    return BatchLoader(library.look_up, late_seconds=0)


async def test_a_late_query_is_sent_again_with_the_keys_that_waited_for_it(
    library: Library, hasty: BatchLoader[str]
):
    first = await while_busy(library, hasty)
    second = asyncio.create_task(hasty.get("b"))
    library.closed = asyncio.Event()  # the first query stays unanswered
    library.closed.set()

    async with asyncio.timeout(5):
        assert (await first, await second) == ("A", "B")
    assert library.queries == [["a"], ["a", "b"]]
    assert await hasty.get("c") == "C"  # although the first query is still under way


async def test_the_first_answer_counts_also_that_of_the_late_query(library: Library, hasty: BatchLoader[str]):
    first = await while_busy(library, hasty)
    slow, library.closed = library.closed, asyncio.Event()
    await wait_until(lambda: len(library.queries) == 2)  # this one stays unanswered
    slow.set()

    assert await first == "A"


async def test_a_late_answer_is_older_than_the_callers_of_the_next_query(
    library: Library, hasty: BatchLoader[str]
):
    first = await while_busy(library, hasty)
    slow, library.closed = library.closed, asyncio.Event()
    await wait_until(lambda: len(library.queries) == 2)
    library.shelf["a"] = "newer"
    second = asyncio.create_task(hasty.get("a"))
    await asyncio.sleep(0)
    slow.set()
    assert await first == "A"
    assert not second.done()
    library.closed.set()

    assert await second == "newer"


async def test_an_error_of_a_late_query_is_not_raised_where_the_next_one_is_answered(
    library: Library, hasty: BatchLoader[str]
):
    library.closed.clear()
    first = asyncio.create_task(hasty.get("burning"))
    await wait_until(lambda: library.queries)
    slow, library.closed = library.closed, asyncio.Event()
    await wait_until(lambda: len(library.queries) == 2)
    slow.set()
    await asyncio.sleep(0)
    library.on_fire = False
    library.closed.set()

    assert await first is None


async def test_only_so_many_queries_run_at_once(library: Library, hasty: BatchLoader[str]):
    first = await while_busy(library, hasty)
    others = [asyncio.create_task(hasty.get(key)) for key in "bc"]
    await wait_until(lambda: len(library.queries) == 4)
    more = asyncio.create_task(hasty.get("a"))
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(library.queries) == 4
    library.closed.set()

    assert await asyncio.gather(first, *others, more) == ["A", "B", "C", "A"]


async def test_a_cancelled_caller_does_not_affect_the_others(library: Library, batches: BatchLoader[str]):
    first = await while_busy(library, batches)
    same = asyncio.create_task(batches.get("b"))
    leaving = asyncio.create_task(batches.get("b"))
    await asyncio.sleep(0)
    first.cancel()
    leaving.cancel()
    library.closed.set()

    assert await same == "B"


async def test_an_error_is_raised_in_the_callers_of_its_query_only(
    library: Library, batches: BatchLoader[str]
):
    first = await while_busy(library, batches)
    unlucky = [asyncio.create_task(batches.get(key)) for key in ("burning", "b")]
    await asyncio.sleep(0)
    library.closed.set()

    assert await first == "A"
    for each in unlucky:
        with pytest.raises(OSError, match="on fire"):
            await each
    assert await batches.get("b") == "B"


async def test_an_error_without_a_waiting_caller_is_not_reported_as_never_retrieved(
    library: Library, batches: BatchLoader[str]
):
    first = await while_busy(library, batches)
    leaving = asyncio.create_task(batches.get("burning"))
    await asyncio.sleep(0)
    leaving.cancel()
    library.closed.set()

    assert await first == "A"
    await wait_until(lambda: ["burning"] in library.queries)
    assert await batches.get("b") == "B"


async def test_a_query_runs_in_the_context_of_one_of_its_own_callers():
    caller, queried_by = ContextVar[str]("caller"), []
    closed = asyncio.Event()

    async def look_up(keys: Sequence[str]) -> dict[str, str]:
        queried_by.append((sorted(keys), caller.get()))
        await closed.wait()
        return {}

    batches = BatchLoader(look_up)

    async def request(name: str) -> None:
        caller.set(name)
        await batches.get(name)

    first = asyncio.create_task(request("a"))
    await wait_until(lambda: bool(queried_by))
    second = asyncio.create_task(request("b"))
    await asyncio.sleep(0)
    closed.set()
    await asyncio.gather(first, second)

    assert queried_by == [(["a"], "a"), (["b"], "b")]
