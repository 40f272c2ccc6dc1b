"""What a command says when it fails: one line for what a user can mend, a traceback for a bug."""

from __future__ import annotations

import io
import os
import re
import sys
import traceback
import warnings
from typing import Any

import click

from splade_os.cli.terminal import clean, echo, secho
from splade_os.errors import IndexNotFoundError, SpladeError, SpladeWarning

_REPORT = (
    "This is a fault of splade-os, not of your input. Please report it with the lines above and "
    "the command that you typed."
)


def run(command: click.Command) -> int:
    """Run the command line that the process was started with.

    Returns:
        The exit code: 0 done, 1 failed, 2 wrong use, 3 done with dead letters, 130 interrupted.
    """
    _show_any_character()
    warnings.showwarning = _show_warning
    try:
        code = _code_of(command)
        _flush()
        return code
    except click.ClickException as error:
        error.show()
        _print_json(error.format_message(), None, error, error.exit_code)
        return error.exit_code
    except click.Abort as error:
        if isinstance(error.__cause__, EOFError):  # click takes every end of file for Ctrl-D
            return _bug(error)
        return _interrupted(error)
    except KeyboardInterrupt as error:
        return _interrupted(error)
    except SpladeError as error:
        _say(error, error.message, _with_indices(error))
        return 1
    except OSError as error:
        if error.errno is None:  # raised by a library for reasons of its own
            return _bug(error)
        _say(error, _of_the_system(error))
        return 1
    except RecursionError as error:
        return _bug(error, limit=-20)  # the frames repeat: a thousand would say no more
    except Exception as error:
        return _bug(error)


def _code_of(command: click.Command) -> int:
    try:
        code = command(standalone_mode=False)
    except SystemExit as error:  # sys.exit(3) in a command
        code = error.code
    return code if isinstance(code, int) else 0


def _of_the_system(error: OSError) -> str:
    """A full disk, a missing right, a name that is too long ...: which file, and what of it."""
    files = [str(name) for name in (error.filename, error.filename2) if name is not None]
    reason = error.strerror or type(error).__name__
    return f"{' -> '.join(files)}: {reason}." if files else f"{reason}."


def _say(error: BaseException, message: str, hint: str | None = None) -> None:
    secho(f"Error: {clean(message, lines=True)}", fg="red", err=True)
    if hint:
        echo(clean(hint, lines=True), err=True)
    _print_json(message, hint, error, 1)


def _with_indices(error: SpladeError) -> str | None:
    """The hint, and where an index is missing those that there are."""
    from splade_os.cli.options import indices_there

    if not isinstance(error, IndexNotFoundError):
        return error.hint
    named = re.search(r"index (\S+)", error.message)
    lines = (error.hint, indices_there(named[1] if named else ""))
    return "\n".join(line for line in lines if line) or None


def _print_json(message: str, hint: str | None, error: BaseException, code: int) -> None:
    """``--json``: whoever parses standard output finds an object there, whatever happens."""
    arguments = sys.argv[1:]
    if "--" in arguments:
        arguments = arguments[: arguments.index("--")]
    if "--json" not in arguments or sys.stdout is None:
        return
    from splade_os.cli.options import print_json

    kind = type(error).__name__
    try:
        print_json({"error": {"type": kind, "message": message, "hint": hint}, "exit_code": code})
        _flush()
    except OSError:  # nobody reads it
        _forget_output()


def _interrupted(error: BaseException) -> int:
    echo("Interrupted.", err=True)
    _print_json("Interrupted.", None, error, 130)
    return 130


def _bug(error: BaseException, limit: int | None = None) -> int:
    traceback.print_exc(limit=limit)
    echo(_REPORT, err=True)
    _print_json(f"{type(error).__name__}: {error}", _REPORT, error, 1)
    return 1


def _show_any_character() -> None:
    """Text goes out whatever the terminal's encoding: what it lacks is spelled ``\\u2588``."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _flush() -> None:
    """What is still in the buffer may be what does not fit on the disk."""
    if sys.stdout is None:  # closed by the shell: >&-
        return
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has seen enough
        _forget_output()
    except OSError:
        _forget_output()
        raise


def _forget_output() -> None:
    """Else the interpreter tries once more when it ends, and complains."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def _show_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int,
    file: Any = None, line: str | None = None,
) -> None:  # fmt: skip
    """Ours as a line of talk; those of libraries as Python shows them."""
    if issubclass(category, SpladeWarning):
        secho(f"Warning: {clean(str(message), lines=True)}", fg="yellow", err=True)
        return
    text = warnings.formatwarning(message, category, filename, lineno, line)
    echo(text, nl=False, err=True)
