"""The application's say at a sign-in, after a refresh that has changed claims, and at a session's end."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from app.bff.errors import SignInUnavailable, UsageError
from app.bff.oidc.kept_claims import OF_LOGIN, clean_claims
from app.bff.sessions.session import Reason, Session, TokenSet
from app.bff.singleflight import SingleFlight
from app.bff.telemetry.logs import session_log_id

log = logging.getLogger(__name__)

Claims = Mapping[str, Any]


@dataclass(frozen=True)
class HookContext:
    """What a hook gets.

    `claims` are those of the session; in `on_sign_in` all that the provider has sent, also those that
    BFF_CLAIMS leaves out. `tokens.access_token` is the user's access token. `state` is what the `lifespan`
    has yielded, None in a process that has entered none. `session` is the session, which at a sign-in is not
    stored yet. `changed` has the names of the claims that a refresh has changed, `reason` says why a session
    has ended: a reason of docs/bff/sessions.md, or `renewed`: replaced by a new login of the same user in the
    same browser.

    Example::

        class NewNames(Hooks):
            async def on_refresh(self, context: HookContext) -> None:
                if "name" in context.changed:
                    context.state.rename(context.session.subject, context.claims["name"])
    """

    claims: Claims = field(repr=False)
    tokens: TokenSet
    state: Any
    session: Session
    changed: Sequence[str] = ()
    reason: Reason | None = None


class Hooks:
    """What an application does when users sign in and out: override what you need, and pass one to `run`.

    Each method is called once for each event, in the process in which it happens, and for at most
    `timeout_seconds`. What a hook raises is logged; only `on_sign_in` can stop anything. A hook that blocks
    the event loop stops all requests: await what takes time.

    Example::

        class ShopHooks(Hooks):
            timeout_seconds = 3

            async def on_sign_in(self, context: HookContext) -> dict[str, object]:
                customer = await context.state.customer(context.session.subject)
                if customer is None:
                    raise Forbidden("There is no customer account for you yet.")
                return {"customer_number": customer}

            async def on_sign_out(self, context: HookContext) -> None:
                await context.state.forget_baskets(context.session.subject)
    """

    timeout_seconds: float = 5

    async def on_sign_in(self, context: HookContext) -> Claims | None:
        """Return claims to add to those of the new session, or raise Forbidden: then there is none.

        It is called once the provider's answer is validated, before BFF_REQUIRE is judged and before the
        session exists: whatever happens in it or to this process, there is no half-made session. Added claims
        replace those of the provider, and stay when a refresh renews these. Those of the login (`sub`, `acr`
        …) cannot be added. If it takes longer than `timeout_seconds` the user gets an error page, 503
        `sign_in_unavailable`; what else it raises is answered as in a handler, and offers to try again. The
        tokens are revoked.

        Example::

            class Roles(Hooks):
                async def on_sign_in(self, context: HookContext) -> dict[str, object]:
                    return {"roles": ["editor"] if "staff" in context.claims.get("groups", []) else []}
        """

    async def on_refresh(self, context: HookContext) -> Claims | None:
        """A refresh has changed claims of the provider, and is saved; return claims to add, or None.

        They are added to those of `on_sign_in`, or replace them; None as a value takes one away. If it fails
        or takes too long, that is logged and the refresh stands; requests that wait for the new token wait
        for it.

        Example::

            class FreshRoles(Hooks):
                async def on_refresh(self, context: HookContext) -> dict[str, object]:
                    return {"roles": ["editor"] if "staff" in context.claims.get("groups", []) else None}
        """

    async def on_sign_out(self, context: HookContext) -> None:
        """A session is over; `context.reason` says why.

        It is called in the process that has ended the session, in the background: the command `sessions end`
        enters your `lifespan` for it. A session that runs out ends in no process, and nothing is called.

        Example::

            class Log(Hooks):
                async def on_sign_out(self, context: HookContext) -> None:
                    print(context.reason)
        """


class HookRunner:
    """Calls the hooks of the application, and bears what they do."""

    def __init__(self, hooks: Hooks) -> None:
        self.state: Any = None  # set as soon as the lifespan has yielded it
        self._hooks = hooks
        self._in_background = SingleFlight[None]()

    @property
    def timeout_seconds(self) -> float:
        return self._hooks.timeout_seconds

    async def sign_in(self, session: Session, claims: Claims) -> Session:
        """Return the session with the claims that `on_sign_in` adds; raises what it raises."""
        context = HookContext(claims, session.tokens, self.state, session)
        try:
            return _with_added(session, await self._in_time(self._hooks.on_sign_in(context)))
        except TimeoutError as error:
            _log_failure("on_sign_in", session, error)
            raise SignInUnavailable("This site could not prepare your session in time.") from error

    async def refreshed(self, session: Session, changed: Sequence[str]) -> Session:
        """Return the session with the claims that `on_refresh` adds; as it is if that fails."""
        context = HookContext(session.claims, session.tokens, self.state, session, changed)
        try:
            return _with_added(session, await self._in_time(self._hooks.on_refresh(context)))
        except Exception as error:
            _log_failure("on_refresh", session, error)
            return session

    def signed_out(self, session: Session, reason: Reason) -> None:
        """Call `on_sign_out` in the background."""
        self._in_background.start(object(), lambda: self._signed_out(session, reason))

    async def _signed_out(self, session: Session, reason: Reason) -> None:
        context = HookContext(session.claims, session.tokens, self.state, session, reason=reason)
        try:
            await self._in_time(self._hooks.on_sign_out(context))
        except Exception as error:
            _log_failure("on_sign_out", session, error)

    async def drain(self) -> None:
        """Wait for what runs in the background: as long as a hook may take."""
        await self._in_background.drain()

    async def _in_time(self, work: Awaitable[Any]) -> Any:
        """Return the result, or raise TimeoutError, also if the hook does not heed its cancellation."""
        task = asyncio.ensure_future(work)
        task.add_done_callback(lambda task: task.cancelled() or task.exception())  # marks it retrieved
        try:
            await asyncio.wait({task}, timeout=self._hooks.timeout_seconds)
            if not task.done():
                raise TimeoutError
            if task.cancelled():  # by something in it: the request or refresh that waits for it goes on
                raise UsageError("a hook was cancelled from inside")
            return task.result()
        finally:
            task.cancel()


def _log_failure(hook: str, session: Session, error: Exception) -> None:
    fields = {"hook": hook, "session": session_log_id(session.ref)}
    if isinstance(error, TimeoutError):
        log.error("hook took too long", extra=fields)
    else:
        log.error("hook failed", extra=fields, exc_info=error)


def _with_added(session: Session, added: Claims | None) -> Session:
    """Return the session with `added` claims; raises UsageError for what is no claim of the application's."""
    if added is None:
        return session
    removed = {name for name, value in added.items() if value is None}
    given = {name: value for name, value in added.items() if value is not None}
    clean, dropped = clean_claims(json.loads(json.dumps(given)))
    wrong = sorted([*dropped, *(OF_LOGIN & added.keys())])
    if wrong:
        raise UsageError(f"a hook returned claims that it cannot add: {', '.join(wrong)}")
    claims = {
        name: value
        for name, value in session.claims.items()
        if not (name in removed and name in session.added)
    }
    names = dict.fromkeys([*session.added, *clean])
    return replace(
        session,
        claims={**claims, **clean},
        added=tuple(name for name in names if name not in removed),
    )
