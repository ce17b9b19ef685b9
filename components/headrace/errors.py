"""Every error Headrace raises on purpose, and the exit code each one ends a command with.

A message says what was found and what was expected; `remedy` says what to do next.
"""

from __future__ import annotations

EXIT_DONE = 0
EXIT_FAILURE = 1
EXIT_INPUT = 2
EXIT_NO_GO = 3
EXIT_PREEMPTED = 75


class HeadraceError(Exception):
    """A failure with a clear cause; a retry may help."""

    exit_code = EXIT_FAILURE
    told = False
    """Whether another process of the same step has printed it already."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


class InputError(HeadraceError, ValueError):
    """Usage, configuration or data that no retry can mend."""

    exit_code = EXIT_INPUT


class ChangedSource(InputError):
    """A file of the dataset is not the one the manifest froze."""


class DamagedData(InputError):
    """A file of the dataset that is there and cannot be decoded."""


class DamagedCheckpoint(InputError):
    """A checkpoint that lacks its commit record, or differs from it."""


class AlreadyExists(HeadraceError):
    """An object that may be written once was there already."""


class Taken(HeadraceError):
    """Another live run has the place."""


class Refused(HeadraceError):
    """A no-go verdict or a gate that refused: the answer, not a fault."""

    exit_code = EXIT_NO_GO


class Preempted(HeadraceError):
    """Stopped from outside; the same command again goes on from the newest commit."""

    exit_code = EXIT_PREEMPTED
