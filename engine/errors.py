"""The one exception tree of sd2rt.

    Sd2rtError                     the command line turns it into one line, exit code 1
    |- InvalidArgument             also a ValueError; exit code 2
    |- BundleError                 a bundle is missing, damaged, of another schema, or has a wrong hash
    |- ModelNotFound               no folder, alias or embedded model of that name
    |- ExportError                 an export failed, a component missing its gate included
    |- OutputError                 a finished picture could not be written where it should
    |- MissingDependency           also an ImportError; names the extra to install
    |- EngineError
       |- TargetUnavailable        the target does not work on this machine
       |- BuildError               an engine could not be made from a bundle's files
       |- EngineCacheError         the engine cache cannot be read or written

Messages say what was got, what was expected and what to do. This module knows nothing of who raises what.
"""

# What memory that cannot be had is called by ONNX Runtime, by C++, and by CUDA and its libraries.
OUT_OF_MEMORY = ("failed to allocate memory", "bad_alloc", "bad allocation", "out of memory", "alloc_failed")
CLOSE_OTHERS = "close other programs, or use a smaller model"
SMALLER = "smaller pictures, fewer at once or smaller tiles (--width, --height, -n, --tile) need less"


class Sd2rtError(Exception):
    """Base of every error that a user can act on."""


class InvalidArgument(Sd2rtError, ValueError):
    """A value from the caller is wrong; the message gives got, expected and what to do."""


class BundleError(Sd2rtError):
    """A bundle is missing, damaged, of an unsupported schema, or its files do not match their hashes."""


class ModelNotFound(Sd2rtError):
    """No bundle folder, alias or embedded model has the name asked for."""


class ExportError(Sd2rtError):
    """A checkpoint could not be exported, or a component misses its accuracy gate."""


class OutputError(Sd2rtError):
    """A finished picture could not be written where it should; the message says why, and where it is instead."""


class MissingDependency(Sd2rtError, ImportError):
    """A package that only an extra installs is needed; the message names the extra."""


class EngineError(Sd2rtError):
    """Base of what goes wrong while engines are chosen, built, cached or run."""


class TargetUnavailable(EngineError):
    """The target asked for does not work on this machine; the message says why and what to install."""


class BuildError(EngineError):
    """An engine could not be made from the bundle's files."""


class EngineCacheError(EngineError):
    """The engine cache cannot be read or written."""


def first_line(error: Exception) -> str:
    """Return what another library's error says, cut to one line that fits into a message of ours."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def reason(error: Exception, hint: str = CLOSE_OTHERS) -> str:
    """Return what another library's error says in one line; where memory could not be had, that and `hint`, which says what to do."""
    said = first_line(error)
    return f"out of memory; {hint}" if is_out_of_memory(error, said) else said


def is_out_of_memory(error: Exception, said: str) -> bool:
    """Whether memory could not be had, by the error's type or by `said`, as much of its message as speaks of the cause."""
    return isinstance(error, MemoryError) or any(words in said.lower() for words in OUT_OF_MEMORY)
