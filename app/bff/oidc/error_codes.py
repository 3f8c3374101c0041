"""OAuth error codes of the endpoints that are called directly, by who has to act."""

from __future__ import annotations

# RFC 6749 §5.2: this code or refresh token is invalid. No other error ends a session.
INVALID_GRANT = "invalid_grant"

# The operator: the client or its request is wrong.
CLIENT_ERRORS = frozenset(
    {
        # RFC 6749 §5.2, §4.1.2.1
        "invalid_request",
        "invalid_client",
        "unauthorized_client",
        "unsupported_grant_type",
        "unsupported_response_type",
        "invalid_scope",
        "unsupported_token_type",  # RFC 7009 §2.2.1
        "invalid_target",  # RFC 8707 §2
        # RFC 9449 §5, §8
        "invalid_dpop_proof",
        "use_dpop_nonce",
        # OIDC Core §3.1.2.6
        "invalid_request_uri",
        "invalid_request_object",
        "request_not_supported",
        "request_uri_not_supported",
        "registration_not_supported",
    }
)

# The user: sign in again, consent, or ask for access. Of unknown codes the same is assumed.
USER_ERRORS = frozenset(
    {
        "access_denied",  # RFC 6749 §4.1.2.1
        # OIDC Core §3.1.2.6
        "interaction_required",
        "login_required",
        "account_selection_required",
        "consent_required",
        "unmet_authentication_requirements",  # OIDC Unmet Authentication Requirements §2
        "insufficient_user_authentication",  # RFC 9470 §3
        "invalid_token",  # RFC 6750 §3.1
        "expired_token",  # RFC 8628 §3.5, CIBA §11
        # CIBA §11 to §13
        "unknown_user_id",
        "transaction_failed",
        # of several providers, for a refresh token that is over or a user who is blocked
        "token_inactive",
        "token_expired",
        "bad_refresh_token",
        "invalid_refresh_token",
        "mfa_required",
    }
)

# The provider: the same request may succeed later.
TEMPORARY_ERRORS = frozenset(
    {
        # RFC 6749 §4.1.2.1
        "server_error",
        "temporarily_unavailable",
        # RFC 8628 §3.5, CIBA §11
        "slow_down",
        "authorization_pending",
        # of several providers
        "too_many_requests",
        "rate_limit_exceeded",
    }
)
