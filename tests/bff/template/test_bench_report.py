"""What bench/ makes of its figures: medians and ratios, a table, a plot."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from bench.figures import (
    Burst,
    Bursts,
    Memory,
    Pace,
    Ratio,
    Results,
    Sample,
    Spread,
    Waiting,
    medians,
    spread,
)
from bench.machine import Places, places
from bench.plot import LONGEST, Bar, Panel, svg
from bench.questions import CONTENDERS, GROUPS, PANELS, RATIOS, SMALL
from bench.report import markdown, table

SVG = "{http://www.w3.org/2000/svg}"


def a_sample(contender: str = "a", round_: int = 0, requests: float = 1000, **changed: object) -> Sample:
    right = Sample(
        group=SMALL,
        contender=contender,
        round=round_,
        cores=1,
        requests_per_second=requests,
        p50_ms=10,
        p99_ms=20,
        cpu_seconds_per_1000=0.5,
        busy=1,
        rss_mb=80,
        errors=0,
    )
    return replace(right, **changed)  # type: ignore[arg-type]


def a_results() -> Results:
    """One round of everything that a ratio is about."""
    named = {(ratio.group, name) for ratio in RATIOS for name in (ratio.over, ratio.under)}
    burst = Burst({"200": 1000}, p50_ms=300, p99_ms=600)
    return Results(
        date="2026-11-23",
        seconds=4,
        rounds=1,
        few_sessions=1000,
        many_sessions=1_000_000,
        machine={"processor": "Abacus, 2 cores", "nginx": "1.22.1"},
        samples=[a_sample(name, group=group) for group, name in sorted(named)],
        bursts=Bursts(1000, 2, refreshes=[1, 1], expired=[burst, burst], good=[burst]),
        memory=Memory(2_000_000_000, 1000, 80, 81, 83, 110, up_mb_per_second=400, down_mb_per_second=1200),
        waiting=Waiting(500, 10, alone=[Pace(2, 4), Pace(2, 5)], beside=[Pace(3, 6), Pace(3, 5)]),
    )


def rows(document: str) -> dict[str, list[str]]:
    """The cells of all tables, by what stands in the first column."""
    lines = [[cell.strip() for cell in line.split("|")] for line in document.splitlines() if line[:1] == "|"]
    return {first: others for _, first, *others, _ in lines}


def shapes(document: str, kind: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(document).iter(SVG + kind))  # noqa: S314 (our own)


def test_a_line_has_the_medians_of_all_runs_and_the_sum_of_their_errors():
    runs = [a_sample(requests=1000, p99_ms=20), a_sample(requests=900, p99_ms=90, errors=2)]
    runs += [a_sample(requests=100, p99_ms=30, errors=1)]

    [line] = medians(runs)

    assert (line.requests_per_second, line.p99_ms, line.errors) == (900, 30, 3)


def test_each_contender_of_each_group_has_a_line_in_the_order_of_the_first_round():
    runs = [a_sample("b"), a_sample("a"), a_sample("a", group="1 MB"), a_sample("a", 1), a_sample("b", 1)]

    assert [(line.group, line.contender) for line in medians(runs)] == [
        (SMALL, "b"),
        (SMALL, "a"),
        ("1 MB", "a"),
    ]


def test_a_ratio_is_taken_within_each_round_so_that_a_slow_round_does_not_count():
    fast, slow, other = (1000, 800), (100, 90), (500, 500)
    runs = [
        a_sample(name, number, requests)
        for number, pair in enumerate([fast, slow, other])
        for name, requests in zip("ab", pair, strict=True)
    ]

    ratio = spread(Ratio(SMALL, "b", "a", wanted=0.8), runs, lambda sample: sample.requests_per_second)

    assert ratio == Spread(median=0.9, least=0.8, most=1.0)


def test_a_ratio_looks_at_its_own_group_only():
    runs = [a_sample("a"), a_sample("b", requests=500), a_sample("b", group="1 MB", requests=7)]

    ratio = spread(Ratio(SMALL, "b", "a", wanted=0.8), runs, lambda sample: sample.requests_per_second)

    assert ratio.median == 0.5


def test_by_cpu_is_what_the_cores_could_do_if_nothing_made_them_wait():
    assert a_sample(cpu_seconds_per_1000=0.5, busy=0.3).by_cpu == 2000
    assert a_sample(cpu_seconds_per_1000=0.5, cores=2).by_cpu == 4000


@pytest.mark.parametrize(
    ("cores", "processes", "expected"),
    [
        ([0, 1], 1, Places((0,), (1,))),
        ([0, 1], 2, Places((0, 1), (0, 1))),
        ([4, 5, 6, 7], 2, Places((4, 5), (6, 7))),
        ([0], 1, Places((0,), (0,))),
    ],
)
def test_what_is_measured_has_cores_of_its_own_if_any_are_left(
    cores: list[int], processes: int, expected: Places
):
    assert places(cores, processes) == expected


def test_a_table_begins_with_words_and_goes_on_with_numbers():
    assert table(["", "MB"], [["idle", "80"]]) == "|  | MB |\n| --- | ---: |\n| idle | 80 |"


def test_the_document_names_the_machine_the_rounds_and_every_group():
    document = markdown(a_results())

    assert "Abacus, 2 cores; nginx 1.22.1." in document
    assert "1 rounds of 4 s" in document
    assert "1,000 and 1,000,000, drawn at random" in document
    assert [title for title in GROUPS.values() if f"## {title}" not in document] == [
        "An answer of 10 KB",
        "An answer of 1 MB",
    ]


def test_every_contender_has_a_description_and_every_ratio_stands_next_to_its_target():
    lines = rows(markdown(a_results()))

    assert lines["(b) this application, Motor"] == [
        *("1,000", "10.0", "20.0", "0.500", "1.00", "2,000", "80", "0"),
    ]
    assert lines["(d uncached) / (c)"] == ["**1.00**", "1.00 to 1.00", "1.00", "1.80"]


def test_the_bursts_say_how_many_refreshes_there_were_in_each_and_what_was_answered():
    lines = rows(markdown(a_results()))

    assert lines["has just expired"] == ["1 1", "2,000 × 200", "300", "600"]
    assert lines["is good"] == ["", "1,000 × 200", "300", "600"]


def test_memory_stands_next_to_that_of_an_idle_process():
    lines = rows(markdown(a_results()))

    assert lines["idle"] == ["80", "0", ""]
    assert lines["2 GB go up"] == ["81", "1", "400"]
    assert lines["1,000 event streams are open"] == ["110", "30", ""]


def test_the_longest_bar_fills_its_panel_and_the_others_are_in_proportion():
    first = Panel("one scale", [Bar("a", 50), Bar("b", 100)])
    second = Panel("another", [Bar("c", 4000)])

    lengths = [float(bar.get("width", 0)) for bar in shapes(svg([first, second]), "rect")]

    assert lengths == [LONGEST / 2, LONGEST, LONGEST]


def test_no_two_bars_of_a_plot_overlap_and_all_lie_in_it():
    document = svg([Panel("one", [Bar("a", 1), Bar("b", 2)]), Panel("two", [Bar("c", 3)])])

    tops = [int(bar.get("y", 0)) for bar in shapes(document, "rect")]
    ends = [top + int(bar.get("height", 0)) for top, bar in zip(tops, shapes(document, "rect"), strict=True)]
    height = int(ElementTree.fromstring(document).get("viewBox", "").split()[3])  # noqa: S314 (our own)

    assert all(end < top for end, top in zip(ends, tops[1:], strict=False))
    assert ends[-1] <= height


def test_a_bar_is_labelled_with_its_name_and_its_value():
    document = svg([Panel("x < y", [Bar("nginx & us", 12345.6)])])

    assert [text.text for text in shapes(document, "text")] == ["x < y", "nginx & us", "12,346"]


def test_bars_of_ours_look_different_and_every_colour_has_one_for_dark_pages():
    document = svg([Panel("", [Bar("ours", 1, ours=True), Bar("theirs", 1)])])

    assert [bar.get("class") for bar in shapes(document, "rect")] == ["bar ours", "bar"]
    light, dark = document.split("@media (prefers-color-scheme: dark)")
    for kind in ("text", ".bar", ".ours"):
        assert f"{kind} {{" in light
        assert f"{kind} {{" in dark


def test_every_contender_that_is_compared_or_drawn_has_a_name():
    compared = {name for ratio in RATIOS for name in (ratio.over, ratio.under)}

    assert compared | {name for names in PANELS.values() for name in names} <= set(CONTENDERS)
    assert {ratio.group for ratio in RATIOS} <= set(GROUPS)


def test_the_effect_of_a_slow_api_on_others_is_the_p99_of_each_round():
    report = markdown(a_results())

    assert rows(report)["alone"] == ["2.0", "4.5"]
    assert rows(report)["beside 500 requests"] == ["3.0", "5.5"]
    assert "1.25 times as long" in report
