"""The process edge of the command line: check option values, and turn every error into a message and an exit code.

Errors of the environment (a missing folder, a full disk, a number out of range, text that is not UTF-8, a missing
package) print one line and exit with code 2. Anything else is a bug in gonogo: it prints the traceback and exits
with code 70.
"""

from __future__ import annotations

import copy
import errno
import functools
import io
import math
import os
import stat
import sys
import traceback
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from typing import Any

import typer
from typer.main import get_command

from gonogo.cli import extras
from gonogo.errors import GonogoError, UnfitError
from gonogo.files import kind_of

DEBUG = "GONOGO_DEBUG"
LARGEST_INTEGER = 2**31 - 1
"""Largest absolute value of integer options without a range; all libraries in use accept it as a count or seed."""
LARGEST_FLOAT = 1e12
"""Largest absolute value of float options without a range."""
LONGEST_TEXT = 4096
"""Largest number of characters in a text option."""
_SHOWN = 300
_ENVIRONMENT = (OSError, OverflowError, UnicodeError, RecursionError, MemoryError)


class Exit(IntEnum):
    """Exit codes of the program; see docs/cli.md."""

    DONE = 0
    UNFIT = 1
    """The input is valid, but the result is negative: unfit, not certified, below a requested rate."""
    BAD_INPUT = 2
    """Wrong usage, unusable input, a missing package, or an error of the environment."""
    FAULT = 70
    """A bug in gonogo; the traceback is printed."""
    INTERRUPTED = 130


def run_guarded(app: typer.Typer) -> None:
    """Run the command line and exit with one of the codes in `Exit`."""
    _escape_unprintable_output()
    debug = _debug_asked_for()
    try:
        program(_asked_for(app))()
    except Exception as error:  # noqa: BLE001  process edge: every error gets a message and an exit code
        code, message = explained(error, command=_first_word())
        if debug or code is Exit.FAULT:
            traceback.print_exception(error)
        print(f"gonogo: {message}", file=sys.stderr)  # noqa: T201
        sys.exit(code)


def _asked_for(app: typer.Typer) -> typer.Typer:
    """The command or group that the command line begins with, alone, or else the whole program.

    Typer evaluates the signature of every command that it is given: a fifth of a second of each start.
    """
    alone, word = copy.copy(app), "".join(sys.argv[1:2])
    alone.registered_commands = [each for each in app.registered_commands if each.name == word]
    alone.registered_groups = [each for each in app.registered_groups if each.name == word]
    return alone if alone.registered_commands or alone.registered_groups else app


@functools.cache
def program(app: typer.Typer) -> Any:
    """Return the command line with checked parameters; built once."""
    return guarded(get_command(app))


def explained(error: Exception, *, command: str) -> tuple[Exit, str]:
    """Return the exit code and the one-line message for an error.

    Args:
        error: The exception that ended the command.
        command: The first word after ``gonogo``.
    """
    if isinstance(error, UnfitError):
        return Exit.UNFIT, str(error)
    if isinstance(error, GonogoError):
        return Exit.BAD_INPUT, str(error)
    if isinstance(error, ImportError):
        extra = extras.extra_of(error.name or "", command)
        if extra is not None:
            return Exit.BAD_INPUT, extras.missing_extra(error.name or "", extra)
    if isinstance(error, _ENVIRONMENT):
        return Exit.BAD_INPUT, f"{_cause(error)} Add --debug for the traceback."
    return Exit.FAULT, (
        f"unexpected {type(error).__name__}. This is a bug in gonogo: please report it with the lines above."
    )


def _cause(error: Exception) -> str:
    """Describe an error of the environment in one sentence."""
    match error:
        case OSError():
            where = "" if error.filename is None else f"{shortened(error.filename)}: "
            return f"{where}{error.strerror or str(error) or type(error).__name__}."
        case UnicodeEncodeError():
            found = error.object[error.start : error.end]
            return f"expected a name or text that can be written as {error.encoding}, found {found!r}. Rename it."
        case UnicodeDecodeError():
            found_byte = error.object[error.start]
            return f"expected {error.encoding} text, found byte {found_byte:#04x} at {error.start}. Save it as UTF-8."
        case RecursionError():
            return "the input is nested too deeply. Check the input files."
        case MemoryError():
            return "not enough memory. Use smaller numbers or pictures, or a machine with more memory."
        case _:
            return f"a number or time is too large ({error}). Use a smaller one."


def guarded(command: Any, words: tuple[str, ...] = ()) -> Any:
    """Make a command and its subcommands check their parameters and required packages before they run.

    Args:
        command: A command of Typer's vendored Click; it is changed in place.
        words: The command's name after ``gonogo``, for example ``("ledger", "list")``.
    """
    for parameter in command.params:
        parameter.callback = _checked_then(parameter.callback)
    subcommands = getattr(command, "commands", None)
    if subcommands is None:
        command.callback = _equipped(command.callback, words)
    for name, each in (subcommands or {}).items():
        guarded(each, (*words, name))
    return command


def _equipped(work: Callable[..., Any], words: tuple[str, ...]) -> Callable[..., Any]:
    @functools.wraps(work)
    def run_equipped(*args: Any, **named: Any) -> Any:
        extras.require_for(words)
        return work(*args, **named)

    return run_equipped


def _checked_then(callback: Callable[..., Any] | None) -> Callable[..., Any]:
    def check(context: Any, parameter: Any, value: Any) -> Any:
        for each in value if isinstance(value, list | tuple) else (value,):
            problem = _problem(each)
            if problem is not None:
                raise typer.BadParameter(problem, ctx=context, param=parameter)
        return value if callback is None else callback(context, parameter, value)

    return check


def _problem(value: object) -> str | None:
    """Say why no option can use this value; ``None`` if it is usable."""
    if isinstance(value, Path):
        return path_problem(value)
    if isinstance(value, str):
        return _text_problem(value)
    if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
        return f"expected a whole number between -{LARGEST_INTEGER} and {LARGEST_INTEGER}, found {shortened(value)}."
    if isinstance(value, float) and not (math.isfinite(value) and abs(value) <= LARGEST_FLOAT):
        return f"expected a finite number between -{LARGEST_FLOAT:g} and {LARGEST_FLOAT:g}, found {value:g}."
    return None


def _text_problem(text: str) -> str | None:
    if len(text) > LONGEST_TEXT:
        return f"expected at most {LONGEST_TEXT:,} characters, found {len(text):,}."
    try:
        text.encode()
    except UnicodeEncodeError:
        return f"expected UTF-8 text, found {text!r}."
    return None


def path_problem(path: Path) -> str | None:
    """Say why a path can be neither read nor written, without opening it; ``None`` if it is usable.

    Devices, pipes and sockets are refused: reading one may never end, and an output file would replace it.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ENOTDIR:
            return f"{shortened(path)}: expected a path inside a folder, found one below a file."
        return f"{shortened(path)}: {error.strerror or error}."
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return None
    return f"{shortened(path)}: expected a regular file or a folder, found {kind_of(mode)}."


def shortened(value: object) -> str:
    """Return a value as text; the middle of a long text is replaced by dots."""
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN // 2]}...{text[-_SHOWN // 2 :]}"


def _escape_unprintable_output() -> None:
    """Print file names that are not UTF-8 with escapes instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _debug_asked_for() -> bool:
    """Whether ``--debug`` stands before the command, or the environment variable is set."""
    return os.environ.get(DEBUG, "") not in ("", "0") or "--debug" in _before_command()


def _before_command() -> list[str]:
    words = sys.argv[1:]
    first = next((index for index, word in enumerate(words) if not word.startswith("-")), len(words))
    return words[:first]


def _first_word() -> str:
    return next((word for word in sys.argv[1:] if not word.startswith("-")), "")
