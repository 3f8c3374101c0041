"""Worker processes at one address, forked before any event loop, client or database driver exists."""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress

from tornado.netutil import bind_sockets

from app.bff.backoff import RESTART_SETTLED_SECONDS, restart_seconds
from app.bff.shutdown import nothing

log = logging.getLogger(__name__)

Sockets = list[socket.socket]
Work = Callable[[Sockets, socket.socket | None, int], int]  # the last is the number of the worker

_STOP_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT}
_SIGNALS = _STOP_SIGNALS | {signal.SIGCHLD}


def bind(port: int, address: str, processes: int) -> list[Sockets]:
    """Return listening sockets for each of `processes` workers (0: one per core), all at one address.

    Each worker has sockets of its own (SO_REUSEPORT), over which the kernel balances connections; with a
    shared socket the first worker to wake up would accept most of them. Raises OSError, also if another
    application listens there that shares its port in the same way.
    """
    first = bind_sockets(port, address)
    count = processes or os.cpu_count() or 1
    if count > 1:  # set after it is bound: then it is the only one, and its siblings can join it
        for each in first:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    same_port = first[0].getsockname()[1]
    return [first, *(bind_sockets(same_port, address, reuse_port=True) for _ in range(count - 1))]


def supervise(sockets: list[Sockets], work: Work) -> int:
    """Run `work` in one forked worker per entry of `sockets`, and return the exit code of all.

    A single entry runs in this process. A worker gets its sockets, and one that closes when this process
    ends; on it the worker sends a byte when it listens. The number is that of the entry, also for a
    replacement. SIGTERM, SIGINT and SIGHUP are passed on as SIGTERM, SIGQUIT and a further SIGINT as SIGQUIT.

    Until every worker has listened, the end of one is a failed start: it ends all of them. Later a worker
    that ends is replaced, after a pause that grows while replacements do not last. If none is left that
    listens, and a replacement ends before it does, all end. The exit code is then not 0, so that a service
    manager restarts the application.
    """
    if len(sockets) == 1:
        return work(sockets[0], None, 0)
    return _Supervisor(sockets, work).run()


class Place:
    """One of the workers: its addresses, and the process that serves there now, if there is one.

    `now` is of the monotonic clock, in seconds.
    """

    def __init__(self, sockets: Sockets) -> None:
        self.pid: int | None = None
        self.sockets = sockets  # open here only until the worker is forked
        self.has_listened = False  # this process, or one before it
        self.starts_at = 0.0  # the next start, while there is no process
        self._addresses = [each.getsockname()[:2] for each in sockets]
        self._started_at = 0.0
        self._short_lives = 0
        self._lifeline: socket.socket | None = None

    def open(self) -> socket.socket:
        """Return the worker's end of a new lifeline. Raises OSError if its address cannot be bound again."""
        if not self.sockets:
            self.sockets = [
                listener
                for host, port in self._addresses
                for listener in bind_sockets(port, host, reuse_port=True)
            ]
        self._lifeline, workers_end = socket.socketpair()
        return workers_end

    def started(self, pid: int, now: float) -> None:
        self.pid, self._started_at = pid, now
        self.close_sockets()  # the kernel would queue connections at a socket that accepts none

    def listens(self) -> bool:
        """Whether its process has sent the byte; it stays in the socket, also after the process."""
        try:
            listens = self._lifeline is not None and bool(
                self._lifeline.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            )
        except OSError:
            return False
        self.has_listened |= listens
        return listens

    def ended(self) -> int | None:
        """Forget its process, and return which that was."""
        pid, self.pid = self.pid, None
        self.close_lifeline()
        return pid

    def schedule(self, now: float) -> float:
        """Plan the next start, and return in how many seconds it is."""
        if now - self._started_at >= RESTART_SETTLED_SECONDS:
            self._short_lives = 0
        seconds = restart_seconds(self._short_lives)
        self._short_lives += 1
        self.starts_at = now + seconds
        return seconds

    def close_sockets(self) -> None:
        for each in self.sockets:
            each.close()
        self.sockets = []

    def close_lifeline(self) -> None:
        if self._lifeline is not None:
            self._lifeline.close()
            self._lifeline = None


class _Supervisor:
    """Starts the workers, passes signals on to them, and replaces those that end."""

    def __init__(self, sockets: list[Sockets], work: Work) -> None:
        self._places = [Place(own) for own in sockets]
        self._work = work
        self._stopping = False
        self._exit_code = 0
        self._earlier = {number: signal.getsignal(number) for number in _SIGNALS}
        self._wakeup, self._wakes = os.pipe()

    def run(self) -> int:
        self._catch_signals()
        while not self._stopping or any(place.pid for place in self._places):
            self._start_due()
            for number in self._signals():
                self._on_signal(number)
            self._reap()
        return self._exit_code

    def _catch_signals(self) -> None:
        """Have the number of each signal written to a pipe, on which this process waits."""
        os.set_blocking(self._wakes, False)
        signal.set_wakeup_fd(self._wakes)
        for number, earlier in self._earlier.items():
            if number != signal.SIGHUP or earlier is not signal.SIG_IGN:  # nohup
                signal.signal(number, nothing)

    def _signals(self) -> bytes:
        """Wait for signals, or until the next worker is due; return their numbers."""
        due = [place.starts_at for place in self._places if place.pid is None and not self._stopping]
        seconds = max(min(due) - time.monotonic(), 0) if due else None
        readable, _, _ = select.select([self._wakeup], [], [], seconds)
        return os.read(self._wakeup, 1024) if readable else b""

    def _on_signal(self, number: int) -> None:
        again = number == signal.SIGINT and self._stopping
        if number in _STOP_SIGNALS:
            self._stop(signal.SIGQUIT if again or number == signal.SIGQUIT else signal.SIGTERM)

    def _stop(self, number: int) -> None:
        self._stopping = True
        for place in self._places:
            if place.pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(place.pid, number)

    def _start_due(self) -> None:
        for place in self._places:
            if place.pid is None and not self._stopping and place.starts_at <= time.monotonic():
                try:
                    lifeline = place.open()
                except OSError as error:  # another program has taken the address meanwhile
                    self._on_end(place, 1, str(error.strerror))
                else:
                    self._fork(place, lifeline)

    def _fork(self, place: Place, lifeline: socket.socket) -> None:
        """Start the worker. A signal between the fork and its own handlers stays pending."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        pid = os.fork()
        if pid == 0:
            self._become_worker(place)
            raise SystemExit(self._work(place.sockets, lifeline, self._places.index(place)))
        lifeline.close()
        place.started(pid, time.monotonic())
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)

    def _become_worker(self, own: Place) -> None:
        """Close what is the parent's or a sibling's, and let signals do what they did before."""
        for place in self._places:
            place.close_lifeline()
            if place is not own:
                place.close_sockets()
        signal.set_wakeup_fd(-1)
        os.close(self._wakeup)
        os.close(self._wakes)
        for number, earlier in self._earlier.items():
            if number != signal.SIGINT:  # a terminal sends Ctrl-C to the workers, too
                signal.signal(number, earlier)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)

    def _reap(self) -> None:
        for place in self._places:
            pid, status = os.waitpid(place.pid, os.WNOHANG) if place.pid else (0, 0)
            if pid:
                code = os.waitstatus_to_exitcode(status)
                self._on_end(place, _exit_code(code), _described(code))

    def _on_end(self, place: Place, exit_code: int, reason: str) -> None:
        listening = [each for each in self._places if each.listens()]
        pid = place.ended()
        if self._stopping:
            self._exit_code = max(self._exit_code, exit_code)
        elif listening and all(each.has_listened for each in self._places):
            seconds = place.schedule(time.monotonic())
            log.error(
                "worker process ended",
                extra={"pid": pid, "reason": reason, "restart_in_seconds": seconds},
            )
        else:
            log.critical("worker process did not start", extra={"pid": pid, "reason": reason})
            self._exit_code = max(exit_code, 1)
            self._stop(signal.SIGTERM)


def _exit_code(status: int) -> int:
    """Return a worker's exit code; a signal that stops it before it handles signals is a normal stop."""
    return status if status >= 0 else int(-status not in _STOP_SIGNALS)


def _described(status: int) -> str:
    return f"exit code {status}" if status >= 0 else signal.Signals(-status).name
