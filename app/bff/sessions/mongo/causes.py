"""Names the cause of a driver's error, for logs and the doctor. Pure; passes on no data of a record."""

from __future__ import annotations

from pymongo.errors import (
    ConnectionFailure,
    ExecutionTimeout,
    InvalidOperation,
    PyMongoError,
    WriteConcernError,
)

# HostUnreachable, HostNotFound, LockTimeout, MaxTimeMSExpired, WriteConcernTimeout, NetworkTimeout,
# ShutdownInProgress, NotYetInitialized, WriteConflict, ReadConcernMajorityNotAvailableYet,
# PrimarySteppedDown, ExceededTimeLimit, SocketException, NotWritablePrimary, Interrupted… and NotPrimary….
_PASSING = frozenset(
    {6, 7, 24, 50, 64, 89, 91, 94, 112, 134, 189, 202, 262, 9001, 10058, 10107}
    | {11600, 11601, 11602, 13388, 13435, 13436}
)
_LABELS = ("RetryableWriteError", "TransientTransactionError", "ResumableChangeStreamError", "RetryableError")
_DUPLICATE_KEY, _DOCUMENT_VALIDATION = 11000, 121


def is_outage(error: BaseException) -> bool:
    """Whether the database did not answer, or cannot for a while; else it refuses, today and tomorrow."""
    if not isinstance(error, PyMongoError):
        return True
    passing = ConnectionFailure, ExecutionTimeout, WriteConcernError, InvalidOperation  # of a closed client
    return (
        isinstance(error, passing)
        or error.timeout
        or getattr(error, "code", None) in _PASSING
        or any(map(error.has_error_label, _LABELS))
    )


def cause_of_driver_error(error: BaseException) -> str:
    """Return the server's name for the error, or host and cause of a failed connection; else the class."""
    details = getattr(error, "details", None)
    if isinstance(details, dict) and "codeName" in details:
        return f"it answers {details['codeName']}"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if not isinstance(error, ConnectionFailure):
        return _refusal(error, details) if isinstance(error, PyMongoError) else str(error)
    said = str(error).partition(" (configured")[0].partition(", ")[0]
    return "there is no primary" if said.startswith("No ") else said


def _refusal(error: PyMongoError, details: object) -> str:
    """What refuses a write, for which the server has no name. Its message quotes the record."""
    code = getattr(error, "code", None)
    if code == _DUPLICATE_KEY and isinstance(details, dict) and details.get("keyPattern"):
        return f"a unique index on {', '.join(details['keyPattern'])} refuses it"
    return (
        "the validator of the collection refuses it" if code == _DOCUMENT_VALIDATION else type(error).__name__
    )
