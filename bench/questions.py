"""What we want to know: the names of who is compared, and the ratios that we hope for."""

from __future__ import annotations

from bench.figures import Ratio

SMALL, SESSIONS = "160 bytes", "sessions"
SMALL_IN_TURNS, SESSIONS_IN_TURNS = f"{SMALL}, in turns", f"{SESSIONS}, in turns"

GROUPS = {
    SMALL: "An answer of 160 bytes",
    SMALL_IN_TURNS: "An answer of 160 bytes, in turns of a quarter of a second",
    "10 KB": "An answer of 10 KB",
    "1 MB": "An answer of 1 MB",
    SESSIONS: "Few sessions and many",
    SESSIONS_IN_TURNS: "Few sessions and many, in turns of a quarter of a second",
    "processes": "One process and two",
}

CONTENDERS = {
    "a": "Tornado and aiohttp, no session, no checks",
    "b": "this application, Motor",
    "c": "this application, PyMongo",
    "c rule": "the same, with a rule over claims",
    "c logs": "the same, with a line in the log for each request",
    "d uncached": "nginx, asks this application each time",
    "d cached": "nginx, keeps the answer for 5 s",
    "e": "nginx, asks nobody",
    "b small": "Motor, few sessions",
    "b large": "Motor, many sessions",
    "b large, due": "Motor, many sessions, each used for the first time in a minute",
    "b × 1": "Motor, one process",
    "b × 2": "Motor, two processes",
    "c × 1": "PyMongo, one process",
    "c × 2": "PyMongo, two processes",
}

RATIOS = [
    Ratio(SMALL_IN_TURNS, "b", "a", wanted=0.8),
    Ratio(SMALL_IN_TURNS, "c", "a", wanted=1.0),
    Ratio(SMALL_IN_TURNS, "c rule", "c", wanted=0.99),
    Ratio(SMALL_IN_TURNS, "d uncached", "c", wanted=1.8),
    Ratio(SMALL, "d cached", "e", wanted=0.7),
    Ratio(SESSIONS_IN_TURNS, "b large", "b small", wanted=0.9),
    Ratio("processes", "b × 2", "b × 1", wanted=1.7),
    Ratio("processes", "c × 2", "c × 1", wanted=1.7),
]

IN_TURNS = {
    SMALL_IN_TURNS: ["a", "b", "c", "c rule", "d uncached"],
    SESSIONS_IN_TURNS: ["b small", "b large"],
}

# The bars of the plot, in panels with a scale of their own.
PANELS = {
    "Python carries: requests per second of one process": ["a", "b", "c"],
    "nginx carries, one worker (another scale)": ["d uncached", "d cached", "e"],
}
