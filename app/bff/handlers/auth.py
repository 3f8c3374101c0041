"""What login and logout have in common: the navigations out to the provider, and back."""

from __future__ import annotations

from app.bff.errors import WrongSid
from app.bff.handlers.base import BaseHandler
from app.bff.handlers.web import login_url


class AuthHandler(BaseHandler):
    return_path = "/"  # nobody wants to come back to one of these URLs themselves

    @property
    def login_url(self) -> str:
        return login_url(self.return_path, self.login_requirements)

    def try_again_url(self, status_code: int, error: BaseException | None) -> str | None:
        return None if isinstance(error, WrongSid) else self.login_url

    def set_default_headers(self) -> None:
        super().set_default_headers()
        self.set_header("Referrer-Policy", "no-referrer")  # these URLs carry codes and sids
