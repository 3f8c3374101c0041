"""Every metric: its name, unit, labels and meaning. Pure.

Names and labels are those of OpenTelemetry's semantic conventions, where there are any; ours begin with
`bff.`. Every label has few values: route patterns, names in the settings, enumerations of the code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]
# The boundaries that the semantic conventions advise, in seconds.
HTTP_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
DATABASE_SECONDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)
_SUFFIXES = {"s": "_seconds", "By": "_bytes"}


@dataclass(frozen=True)
class Instrument:
    """One metric. The gauges of several processes are summed; of one that `is_shared` the greatest counts."""

    name: str
    kind: Kind
    description: str
    labels: tuple[str, ...] = ()
    unit: str = ""  # UCUM; empty: a number of things
    boundaries: tuple[float, ...] = ()  # of a histogram
    is_shared: bool = False  # a gauge of what all processes have in common

    @property
    def prometheus_name(self) -> str:
        """The name without the suffixes that its samples have: `_total`, `_bucket`, `_count`, `_sum`."""
        return prometheus_label(self.name) + _SUFFIXES.get(self.unit, "")

    @property
    def sample_names(self) -> tuple[str, ...]:
        """The names of its samples, which queries use."""
        suffixes = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}
        return tuple(self.prometheus_name + suffix for suffix in suffixes[self.kind])


def prometheus_label(name: str) -> str:
    """Return a name of OpenTelemetry as Prometheus spells it."""
    return name.replace(".", "_")


def _histogram(
    name: str, description: str, *labels: str, boundaries: tuple[float, ...] = HTTP_SECONDS
) -> Instrument:
    return Instrument(name, "histogram", description, labels, "s", boundaries)


REQUESTS = _histogram(
    "http.server.request.duration",
    "Requests of browsers: an event stream lasts until it ends, a WebSocket until it opens",
    *("http.request.method", "http.route", "http.response.status_code", "url.scheme", "error.type"),
)
ACTIVE_REQUESTS = Instrument(
    "http.server.active_requests", "gauge", "Requests in progress", ("http.request.method", "url.scheme")
)
CALLS = _histogram(
    "http.client.request.duration",
    "Requests to APIs and to the provider, until the response begins",
    *("http.request.method", "server.address", "server.port", "http.response.status_code", "error.type"),
    *("bff.client", "bff.provider.request"),
)
OPERATIONS = _histogram(
    "db.client.operation.duration",
    "Operations on MongoDB, with the wait for a thread of the driver",
    *("db.system.name", "db.collection.name", "db.operation.name", "error.type"),
    boundaries=DATABASE_SECONDS,
)
LOGINS = Instrument(
    "bff.logins", "counter", "Login attempts that have ended here, by outcome", ("bff.outcome",)
)
SESSIONS_STARTED = Instrument("bff.sessions.started", "counter", "Sessions that have started")
SESSIONS_ENDED = Instrument(
    "bff.sessions.ended", "counter", "Sessions that were ended, by reason; none that expired", ("bff.reason",)
)
REFRESHES = Instrument(
    "bff.refreshes", "counter", "Requests with a refresh token, by outcome", ("bff.outcome",)
)
REFRESH_WAITS = _histogram(
    "bff.refresh.wait.duration", "How long a caller waited for the refresh of an access token"
)
LEASE_WAITS = _histogram(
    "bff.lease.wait.duration", "How long a refresh waited while another process held the lease of the session"
)
BREAKERS = Instrument(
    "bff.breakers",
    "gauge",
    "Processes by the state of their circuit breaker, for each kind of request to the provider",
    ("bff.provider.request", "bff.breaker.state"),
)
REVOCATIONS_PENDING = Instrument(
    "bff.revocations.pending", "gauge", "Refresh tokens that are still to be revoked", is_shared=True
)
REFUSALS = Instrument(
    "bff.requests.refused", "counter", "Requests that were refused, by error code", ("bff.error.code",)
)
AUDIT_EVENTS = Instrument(
    "bff.audit.events", "counter", "Lines of the audit log, by event", ("bff.audit.event",)
)
EVENT_STREAMS = Instrument("bff.event_streams.open", "gauge", "Open event streams")
SOCKETS = Instrument("bff.sockets.open", "gauge", "Open WebSockets of browsers")
PROCESSES = Instrument("bff.processes", "gauge", "Processes that serve requests")
STARTS = Instrument("bff.processes.started", "counter", "Starts of a process that serves requests")
CPU_TIME = Instrument("process.cpu.time", "counter", "Processor time that was used", unit="s")
MEMORY = Instrument("process.memory.usage", "gauge", "Resident memory", unit="By")

INSTRUMENTS = {
    each.name: each for each in list(globals().values()) if isinstance(each, Instrument)
}  # in the order of this file
