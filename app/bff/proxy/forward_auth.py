"""Forward authentication: lets a reverse proxy forward API requests itself, with the token from here."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Callable, Mapping

from app.bff.clients.bearer import Credential
from app.bff.errors import CsrfRejected, Forbidden, MethodNotAllowed
from app.bff.proxy.rules import apis_below, check_permission, is_write, route_for, upstream_path
from app.bff.proxy.streaming import StreamingDelegate
from app.bff.settings.apis import RemoteApiSettings
from app.bff.web.cookies import read_cookies
from app.bff.web.cross_origin import api_refusal, lacks_header
from app.bff.web.forwarded import forwarded_request
from app.bff.web.headers import as_a_file

log = logging.getLogger(__name__)

SECRET_HEADER = "X-Forward-Auth-Secret"
_SECONDS_BETWEEN_WARNINGS = 60  # unauthenticated requests must not fill the log

_MAX_CACHE_SECONDS = 5  # a cached response outlives a logout by at most this

_NO_STORE = {"cache-control": ("Cache-Control", "no-store")}


class ForwardAuthGate:
    """Decides which requests may ask for a token: those that carry BFF_FORWARD_AUTH_SECRET.

    An address proves nothing: behind an ordinary reverse proxy every browser has the proxy's.
    """

    def __init__(self, secret: str, *, clock: Callable[[], float]) -> None:
        self._secret = secret.encode()
        self._clock = clock
        self._next_warning_at = 0.0

    def admits(self, headers: Mapping[str, str]) -> bool:
        """Whether the request carries the secret; without a configured one, none does."""
        if not self._secret:
            return False
        is_equal = hmac.compare_digest(headers.get(SECRET_HEADER, "").encode(), self._secret)
        if not is_equal:
            self._warn()
        return is_equal

    def _warn(self) -> None:
        now = self._clock()
        if now >= self._next_warning_at:
            self._next_warning_at = now + _SECONDS_BETWEEN_WARNINGS
            log.warning("forward-auth request without the secret")


class ForwardAuth(StreamingDelegate):
    """Answers 204 with the `Authorization` header for the API, or refuses as the remote API would.

    The response contains a token: `ForwardAuthGate` admits the proxy only, and the proxy must not pass it
    to a browser. The proxy sends the request target in `X-Forwarded-Uri`, and may send in `X-Remote-Api`
    the path of the API that it would forward to.
    """

    async def answer(self) -> None:
        settings = self.services.settings
        method, target = forwarded_request(self.request.headers)
        api = route_for(target.partition("?")[0], settings.remote_apis)
        if api is None:
            raise Forbidden("there is no remote API at this address")
        if self.request.headers.get("X-Remote-Api", api.path) not in ("", api.path):
            raise Forbidden("the proxy would send this to another API")
        if method not in api.methods:
            raise MethodNotAllowed(allowed=api.methods)
        path = upstream_path(target, api, settings.remote_apis)
        if refusal := api_refusal(method, self.request.headers, api.csrf, settings.allowed_origins):
            raise CsrfRejected(refusal)
        session_id = read_cookies(self.request.headers).get(self.services.cookies.session_name)
        self.session = session = await self.services.load_session(session_id)
        check_permission(api, session, writes=is_write(method, self.request.headers))
        client = self.services.clients.create(api.client, session)
        credential = await client.credential()
        # The proxy gives the response what these say, as `proxy.rules` does here.
        headers = as_a_file([], 200) if lacks_header(self.request.headers) else []
        if credential is not None:
            headers += client.proof(credential, method, path).items()
            headers.append(("X-Accel-Expires", str(self._cache_seconds(credential, api))))
        self.send(204, headers)

    def default_headers(self, status: int) -> dict[str, tuple[str, str]]:
        """A 204 reaches no browser: it needs no security headers."""
        return _NO_STORE if status == 204 else super().default_headers(status)

    def _cache_seconds(self, credential: Credential, api: RemoteApiSettings) -> int:
        """How long nginx may cache the response: never beyond the token's expiry, and no DPoP proof.

        nginx uses a cached response for every path under the API's. Where another API lies below, the path
        decides, so that nothing is cached.
        """
        if credential.dpop_key is not None or apis_below(api, self.services.settings.remote_apis):
            return 0
        now = self.services.clock()
        left = _MAX_CACHE_SECONDS if credential.expires_at is None else credential.expires_at - now - 1
        return max(0, int(min(_MAX_CACHE_SECONDS, left)))
