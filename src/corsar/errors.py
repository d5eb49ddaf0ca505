"""What corsar raises when the input or the disk is at fault: one sentence that says what is wrong and what to do."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
CLOSED = (errno.EACCES, errno.EPERM, errno.EROFS)


class CorsarError(Exception):
    """Base of the errors that a person can mend; the command line prints them and exits with 2.

    Example:
        >>> import corsar
        >>> try:
        ...     corsar.SASRec(dmi=8)
        ... except corsar.CorsarError as error:
        ...     str(error)
        "unknown setting 'dmi' of the model sasrec; did you mean 'dim'?"
    """


class ConfigError(CorsarError):
    """A setting is unknown, out of range or contradicts another."""


class DataError(CorsarError):
    """A table or a dataset directory is not what it should be."""


class ArtifactError(CorsarError):
    """A run or an artifact is missing, damaged or of another version."""


class OutputError(CorsarError):
    """A file cannot be written: the disk is full, or the place is closed to the user."""


@contextmanager
def writing(path: object, *kinds: type[Exception], then: str = "run it again") -> Iterator[None]:
    """A block that writes `path`; what goes wrong with the disk in it becomes an OutputError. The outermost block speaks.

    Args:
        kinds: What the libraries that write in the block raise beside OSError.
        then: What to do once the disk has room.
    """
    caught: tuple[type[Exception], ...] = (OSError, OutputError, *kinds)
    try:
        yield
    except caught as error:
        cause = error.__cause__ if isinstance(error, OutputError) and isinstance(error.__cause__, Exception) else error
        raise OutputError(f"cannot write {path}: {disk_fault(cause, then)}") from cause


def disk_fault(error: Exception, then: str = "run it again") -> str:
    """What the disk said, and the remedy, as the second half of a sentence."""
    number = error.errno if isinstance(error, OSError) else None
    told = re.search(r"\(os error (\d+)\)", str(error))  # how libraries written in Rust pass it on
    number = int(told[1]) if told and number is None else number
    if number is None and re.fullmatch(r"\d+ requested and \d+ written", str(error)):
        number = errno.ENOSPC  # numpy does not pass on why
    if number is None:
        return f"{str(error).splitlines()[0] if str(error) else type(error).__name__}; see to the disk and {then}"
    reason = os.strerror(number).lower()
    if number in FULL:
        return f"{reason}; make room on that disk and {then}"
    if number in CLOSED:
        return f"{reason}; change its rights, or choose another place, and {then}"
    return f"{reason}; check the path and {then}"
