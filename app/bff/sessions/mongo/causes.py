"""Names the cause of a driver's error, for logs and the doctor. Pure; passes on no data of a record."""

from __future__ import annotations

from pymongo.errors import ConnectionFailure, PyMongoError


def cause_of_driver_error(error: BaseException) -> str:
    """Return the server's name for the error, or host and cause of a failed connection; else the class."""
    details = getattr(error, "details", None)
    if isinstance(details, dict) and "codeName" in details:
        return f"it answers {details['codeName']}"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if not isinstance(error, ConnectionFailure):
        return type(error).__name__ if isinstance(error, PyMongoError) else str(error)
    said = str(error).partition(" (configured")[0].partition(", ")[0]
    return "there is no primary" if said.startswith("No ") else said
