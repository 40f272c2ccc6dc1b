"""What a command says when it fails: one line for what a user can mend, a traceback for a bug."""

from __future__ import annotations

import io
import os
import sys
import traceback
import warnings
from typing import Any

import click

from splade_os.cli.terminal import clean, echo, secho
from splade_os.errors import SpladeError, SpladeWarning

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
        return error.exit_code
    except click.Abort as error:
        if isinstance(error.__cause__, EOFError):  # click takes every end of file for Ctrl-D
            return _bug()
        echo("Interrupted.", err=True)
        return 130
    except KeyboardInterrupt:
        echo("Interrupted.", err=True)
        return 130
    except SpladeError as error:
        _say(error.message, error.hint)
        return 1
    except OSError as error:
        if error.errno is None:  # raised by a library for reasons of its own
            return _bug()
        _say(_of_the_system(error))
        return 1
    except RecursionError:
        return _bug(limit=-20)  # the frames repeat: a thousand would say no more
    except Exception:
        return _bug()


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


def _say(message: str, hint: str | None = None) -> None:
    secho(f"Error: {clean(message, lines=True)}", fg="red", err=True)
    if hint:
        echo(clean(hint, lines=True), err=True)


def _bug(limit: int | None = None) -> int:
    traceback.print_exc(limit=limit)
    echo(_REPORT, err=True)
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
