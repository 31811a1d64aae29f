"""What a server refuses, each with the HTTP status that says so.

Sd2rtError
  ServeError                    503
    QueueFull                   429, with retry_after_s
    Stopping                    503, with retry_after_s
    WorkerLost                  503
    NoWorker                    503
  InvalidArgument               400
    UnknownModel                404
    UnknownJob                  404
"""

from __future__ import annotations

from sd2rt.engine.errors import InvalidArgument, Sd2rtError


class ServeError(Sd2rtError):
    """The server cannot take or finish this now."""

    retry_after_s = 1


class QueueFull(ServeError):
    """As many orders wait as may."""

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Stopping(ServeError):
    """The server finishes what it has and takes nothing more."""


class WorkerLost(ServeError):
    """The process or machine that painted is gone."""


class NoWorker(ServeError):
    """Nothing paints, and nothing that could comes up."""


class UnknownModel(InvalidArgument):
    """No model of this name is offered."""


class UnknownJob(InvalidArgument):
    """No job of this name, or another owner's, which looks the same."""
