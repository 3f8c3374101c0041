"""Which `iss` are the provider's: BFF_ISSUER, or for several tenants one for each (BFF_TENANTS). Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from app.bff.errors import UntrustedToken

TENANT = "{tenantid}"  # in the issuer that Microsoft Entra announces for more than one tenant
ANY_TENANT = "any-organisation-may-sign-in"
_ALIASES = ("common", "organizations", "consumers")  # stand for the tenant in the URLs of Entra
_TENANT_ID = re.compile("[0-9A-Za-z-]{1,64}")


@dataclass(frozen=True)
class Issuers:
    """The issuer of one provider, or with `tenants` those of several.

    `configured` is BFF_ISSUER, `announced` what the metadata must name (Discovery 1.0 §4.3).
    """

    configured: str
    tenants: frozenset[str] = frozenset()

    @property
    def announced(self) -> str:
        return with_placeholder(self.configured) if self.tenants else self.configured

    def __contains__(self, issuer: object) -> bool:
        """Whether tokens and sessions of `issuer` are this provider's."""
        if not self.tenants:
            return issuer == self.configured
        before, _, after = self.announced.partition(TENANT)
        if not (isinstance(issuer, str) and issuer.startswith(before) and issuer.endswith(after)):
            return False
        return self._allows(issuer[len(before) : len(issuer) - len(after)])

    def of(self, claims: Mapping[str, Any]) -> str:
        """Return the `iss` that a token with these claims must have: that of its own tenant, `tid`.

        Raises UntrustedToken for a tenant that may not sign in.
        """
        if not self.tenants:
            return self.configured
        tenant = claims.get("tid")
        if not isinstance(tenant, str) or not self._allows(tenant):
            raise UntrustedToken("the claim tid names no tenant of BFF_TENANTS")
        return self.announced.replace(TENANT, tenant)

    def _allows(self, tenant: str) -> bool:
        if self.tenants == {ANY_TENANT}:
            return tenant not in _ALIASES and _TENANT_ID.fullmatch(tenant) is not None
        return tenant in self.tenants


def with_placeholder(issuer: str) -> str:
    """Return the issuer with TENANT in place of an alias; unchanged if it has none."""
    parts = urlsplit(issuer)
    path = "/".join(TENANT if part in _ALIASES else part for part in parts.path.split("/"))
    return parts._replace(path=path).geturl()


def tenant_id(value: str) -> str:
    """Return a tenant's id as it is in `tid`, or ANY_TENANT; raises ValueError."""
    if value != ANY_TENANT and (value in (*_ALIASES, "any", "all") or not _TENANT_ID.fullmatch(value)):
        raise ValueError(f"must be ids of tenants, as in the claim tid, or {ANY_TENANT}")
    return value
