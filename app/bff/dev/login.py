"""The provider's browser endpoints: authorization with its login page, and logout."""

from __future__ import annotations

import secrets
from urllib.parse import parse_qsl, urlencode, urlsplit

from tornado.httputil import HTTPServerRequest

from app.bff.dev import pages
from app.bff.dev.backchannel import BackChannel
from app.bff.dev.grants import ProviderSession
from app.bff.dev.oauth import OAuth
from app.bff.dev.realm import Realm
from app.bff.dev.registrations import User
from app.bff.dev.request import Request
from app.bff.dev.server import Answer, params
from app.bff.dev.step_up import acr_for, session_satisfies
from app.bff.web.cookies import read_cookies

COOKIE = "dev_provider_sid"
_ATTRIBUTES = "Path=/; HttpOnly; SameSite=Lax"


class BrowserLogin:
    def __init__(self, realm: Realm, oauth: OAuth) -> None:
        self._realm = realm
        self._oauth = oauth
        self.backchannel = BackChannel(realm)
        self._sessions: dict[str, ProviderSession] = {}

    def authorize(self, request: HTTPServerRequest) -> Answer:
        """The authorization endpoint, and the login page's form."""
        query = params(request.query_arguments)
        parameters = self._oauth.pushed.open(query) if "request_uri" in query else query
        if parameters is None:
            return pages.refused("This request_uri is unknown, used up, too old or not this client's.")
        if mistake := self._mistake(parameters, is_pushed=parameters is not query):
            return pages.refused(mistake)
        answer = self._respond(request, parameters)
        if "Location" in answer.headers or parameters.get("response_mode") == "form_post":
            self._oauth.pushed.finish(query)
        return answer

    def _respond(self, request: HTTPServerRequest, parameters: dict[str, str]) -> Answer:
        if request.method == "POST":
            return self._decided(request, parameters)
        session = self._sessions.get(_cookie(request))
        good = session and session_satisfies(session, parameters, self._realm)
        return self._answer(Request(request, parameters), session if good else None, interactive=True)

    def _mistake(self, parameters: dict[str, str], *, is_pushed: bool) -> str | None:
        """Return why no redirect may be sent (RFC 6749 §4.1.2.1), or None."""
        client = self._realm.clients.get(parameters.get("client_id", ""))
        if client is None:
            return "No client with this client_id is registered here."
        if self._realm.requires_par and not is_pushed:
            return "Authorization requests must be pushed (RFC 9126)."
        if parameters.get("redirect_uri") not in client.redirect_uris:
            return "This redirect_uri is not registered for the client."
        return None

    def _decided(self, request: HTTPServerRequest, parameters: dict[str, str]) -> Answer:
        form = params(request.body_arguments)
        if "deny" in form:
            return self._answer(Request(request, parameters), None, interactive=False)
        if form.get("sub") not in self._realm.users:
            return pages.refused("There is no such user.")
        self._sessions.pop(_cookie(request), None)
        cookie, session = secrets.token_urlsafe(32), self._new_session(form["sub"], parameters)
        self._sessions[cookie] = session
        answer = self._answer(Request(request, parameters), session, interactive=False)
        return answer.plus({"Set-Cookie": f"{COOKIE}={cookie}; {_ATTRIBUTES}"})

    def _answer(self, request: Request, session: ProviderSession | None, *, interactive: bool) -> Answer:
        answer = self._oauth.authorize(request, session, interactive=interactive)
        if answer is None:
            return pages.login(request.form["client_id"], self._offered(request.form.get("login_hint")))
        return self._back(answer, request.form)

    def _offered(self, hint: str | None) -> list[User]:
        """The user that `login_hint` names, else all users."""
        users = list(self._realm.users.values())
        return [user for user in users if hint in (user.sub, user.email)] or users

    def _new_session(self, sub: str, parameters: dict[str, str]) -> ProviderSession:
        return ProviderSession(
            sub, secrets.token_urlsafe(12), int(self._realm.clock()), acr_for(parameters, self._realm)
        )

    def _back(self, answer: Answer, parameters: dict[str, str]) -> Answer:
        """The response with `iss` (RFC 9207 §2), in the `response_mode` of the request."""
        url = urlsplit(answer.headers["Location"])
        response = self._realm.with_overrides(
            "callback", {**dict(parse_qsl(url.query)), "iss": self._realm.issuer}
        )
        if parameters.get("response_mode") == "form_post":
            return pages.form_post(parameters["redirect_uri"], response)
        if parameters.get("response_mode") == "jwt":
            response = {"response": self._realm.signed_response(parameters["client_id"], response)}
        return _redirect(url._replace(query=urlencode(response)).geturl())

    def end_session(self, request: HTTPServerRequest) -> Answer:
        """OpenID Connect RP-Initiated Logout 1.0 §2 and §3.

        With `sessions_end_with_their_grants` a session whose refresh token is revoked is unknown already, as
        at Keycloak: the answer is an error, and the login that it was brokered from survives.
        """
        parameters = params(request.arguments)
        client = self._realm.clients.get(parameters.get("client_id", ""))
        if hint := parameters.get("id_token_hint"):
            hinted = self._realm.client_of_id_token(hint)
            if hinted is None or client not in (None, hinted):
                return pages.refused("This id_token_hint was not issued here, or not to this client.")
            client = hinted
        elif self._realm.demands_logout_hint:
            return pages.refused("The id_token_hint is missing.")
        uri_parameter = self._realm.logout_uri_parameter
        is_usual = uri_parameter == "post_logout_redirect_uri"
        if not (is_usual or uri_parameter in parameters):
            return pages.refused(f"The {uri_parameter} is missing.")
        # A POST of another site comes without the cookie: then the ID token tells which session it is.
        cookie = _cookie(request) or self._cookie_of(self._realm.sid_of_id_token(hint or ""))
        if session := self._sessions.get(cookie):
            if self._realm.sessions_end_with_their_grants and self._realm.ledger.has_revoked(session.sid):
                return pages.refused("session_expired")
            del self._sessions[cookie]
            self.backchannel.announce(session)
        uri = parameters.get(uri_parameter, "")
        known = client is not None and uri in client.post_logout_redirect_uris
        answer = (
            _redirect(_with_state(uri, parameters.get("state") if is_usual else None))
            if known
            else pages.signed_out()
        )
        return answer.plus({"Set-Cookie": f"{COOKIE}=; Max-Age=0; {_ATTRIBUTES}"})

    def _cookie_of(self, sid: str | None) -> str:
        return next((cookie for cookie, session in self._sessions.items() if session.sid == sid), "")

    def end_sessions(self, sub: str) -> None:
        """End the user's provider sessions in every browser, as an administrator does."""
        for cookie in [cookie for cookie, session in self._sessions.items() if session.sub == sub]:
            self.backchannel.announce(self._sessions.pop(cookie))


def _cookie(request: HTTPServerRequest) -> str:
    return read_cookies(request.headers).get(COOKIE, "")


def _redirect(url: str) -> Answer:
    # 303, so that a browser does not post the form again.
    return Answer(303, headers={"Location": url, "Cache-Control": "no-store"})


def _with_state(uri: str, state: str | None) -> str:
    if state is None:
        return uri
    return f"{uri}{'&' if '?' in uri else '?'}{urlencode({'state': state})}"
