"""What commands that work on sessions have in common."""

from __future__ import annotations

from app.settings import Settings

NO_STORE = (
    "Sessions are kept in the memory of the running process (BFF_SESSION_STORE): nobody else sees them."
)


def in_memory(settings: Settings) -> bool:
    return settings.session_store == "memory:"
