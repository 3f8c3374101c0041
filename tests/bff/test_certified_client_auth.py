"""Every method of client authentication × PAR × DPoP, at every endpoint of the certified provider.

It refuses a request in which a parameter is there twice.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwk

from tests.bff.harness import Clock
from tests.bff.test_certified_provider import a_person

API = {
    "base_url": "http://127.0.0.1:1/",
    "token": "client",
    "scope": "orders.read",
    "resource": "https://a.example",
}
KEY = jwk.generate_key("RSA", 2048, parameters={"kid": "ours", "alg": "RS256"})


def chosen_settings(method: str, folder: Path) -> dict[str, Any]:
    if method != "private_key_jwt":
        return {"client_auth": method}
    file = folder / "client.json"
    file.write_text(json.dumps(KEY.as_dict(private=True)))
    return {"client_auth": method, "client_key_file": file, "client_secret": ""}


def registration(method: str) -> dict[str, Any]:
    key = {"jwks": {"keys": [KEY.as_dict(private=False)]}} if method == "private_key_jwt" else {}
    return {"token_endpoint_auth_method": method, **key}


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post", "private_key_jwt"])
@pytest.mark.parametrize("par", [False, True], ids=["", "PAR"])
@pytest.mark.parametrize("dpop", [False, True], ids=["", "DPoP"])
async def test_a_user_signs_in_and_out_and_tokens_are_renewed_and_revoked(
    clock: Clock, tmp_path: Path, method: str, par: bool, dpop: bool
):
    ours = {"par": par, "dpop": dpop, "http_clients": {"ours": API}, **chosen_settings(method, tmp_path)}
    async with a_person(clock, registered=registration(method), **ours) as (alice, certified):
        await alice.signs_in()
        renewed, refresh_token = await alice.token(forced="yes"), await alice.refresh_token()
        assert await certified.is_active(renewed)
        assert await certified.is_active(await alice.app.services.clients.application_token("ours"))
        leaving = await alice.logout()
        await alice.get(await alice.passes_the_provider(leaving.headers["Location"]))

        assert await certified.pushed() == par
        assert not await certified.is_active(refresh_token)
