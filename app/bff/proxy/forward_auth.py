"""Forward authentication: lets a reverse proxy forward API requests itself, with the token from here."""

from __future__ import annotations

from app.bff.clients.bearer import Credential
from app.bff.errors import Forbidden, MethodNotAllowed
from app.bff.proxy.rules import route_for, upstream_path
from app.bff.proxy.streaming import StreamingDelegate
from app.bff.web.forwarded import forwarded_request, is_trusted

_MAX_CACHE_SECONDS = 5  # a cached response outlives a logout by at most this

_NO_STORE = {"cache-control": ("Cache-Control", "no-store")}


class ForwardAuth(StreamingDelegate):
    """Answers 204 with the `Authorization` header for the API, or refuses as the remote API would.

    The response contains a token: it is for proxies in BFF_TRUSTED_PROXIES only, and must never be passed
    to a browser. The proxy sends the request target in `X-Forwarded-Uri`, and may send in `X-Remote-Api`
    the path of the API that it would forward to.
    """

    async def answer(self) -> None:
        settings = self.services.settings
        if not is_trusted(self.request.remote_ip or "", settings.trusted_proxies):
            raise Forbidden("only a proxy that BFF_TRUSTED_PROXIES names may ask this")
        method, target = forwarded_request(self.request.headers)
        api = route_for(target.partition("?")[0], settings.remote_apis)
        if api is None:
            raise Forbidden("there is no remote API at this address")
        if self.request.headers.get("X-Remote-Api", api.path) not in ("", api.path):
            raise Forbidden("the proxy would send this to another API")
        if method not in api.methods:
            raise MethodNotAllowed(allowed=api.methods)
        path = upstream_path(target, api.path)
        client = self.services.clients.create(api.client, await self.require_session())
        credential = await client.credential()
        if credential is None:
            self.send(204)
            return
        proof = client.proof(credential, method, path)
        self.send(204, [*proof.items(), ("X-Accel-Expires", str(self._cache_seconds(credential)))])

    def default_headers(self, status: int) -> dict[str, tuple[str, str]]:
        """A 204 reaches no browser: it needs no security headers."""
        return _NO_STORE if status == 204 else super().default_headers(status)

    def _cache_seconds(self, credential: Credential) -> int:
        """How long nginx may cache the response: never beyond the token's expiry, and no DPoP proof."""
        if credential.dpop_key is not None:
            return 0
        now = self.services.clock()
        left = _MAX_CACHE_SECONDS if credential.expires_at is None else credential.expires_at - now - 1
        return max(0, int(min(_MAX_CACHE_SECONDS, left)))
