"""What commands that work on sessions have in common."""

from __future__ import annotations

from app.bff.settings.load import BffSettings

NO_STORE = (
    "Sessions are kept in the memory of the running process (BFF_SESSION_STORE): nobody else sees them."
)


def in_memory(settings: BffSettings) -> bool:
    return settings.session_store == "memory:"


def counted(count: int, noun: str) -> str:
    """
    >>> counted(1, "session"), counted(1234, "session")
    ('1 session', '1,234 sessions')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
