"""The command line, `nerf-lipsync`. Environment variables are read here and in `stream_server.commands` only.

Exit codes: 0 done, 1 it failed, 2 the input cannot be used (one line on stderr says why), 130 interrupted.
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from model.errors import ModelError
from stream_server.commands import (
    avatars,
    bench,
    create,
    doctor,
    evaluate,
    head_model,
    mark,
    prepare,
    render,
    results,
    serve,
    train,
)
from stream_server.errors import StreamServerError

COMMANDS = (serve, render, create, prepare, head_model, train, evaluate, bench, results, avatars, mark, doctor)

EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130


def _print_version(wanted: bool) -> None:
    if not wanted:
        return
    try:
        version = importlib.metadata.version("nerf-lipsync")
    except importlib.metadata.PackageNotFoundError:
        version = "(not installed: running from a source tree)"
    typer.echo(f"nerf-lipsync {version}")
    raise typer.Exit


def build_app() -> typer.Typer:
    """The typer application with all subcommands."""
    app = typer.Typer(name="nerf-lipsync", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

    @app.callback()
    def root(
        version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True)] = False,
    ) -> None:
        """Real-time, speech-driven neural radiance avatars."""

    for command in COMMANDS:
        command.register(app)
    return app


@functools.cache
def _command_of(build: Callable[[], typer.Typer]) -> Any:
    """The command that an application is; reading all its options takes a fifth of a second."""
    return typer.main.get_command(build())


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    for pool in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(pool, "1")  # products here are small: second threads spin and collapse on busy machines
    command = _command_of(build_app)
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        result = command.main(args=arguments, prog_name="nerf-lipsync", standalone_mode=False)
    except (ModelError, StreamServerError) as error:
        return _complain(" ".join(str(error).split()))
    except typer.TyperException as error:
        return _complain(error.format_message())
    except (KeyboardInterrupt, typer.Abort):
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of our output is gone, as in `nerf-lipsync results | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    return result if isinstance(result, int) else 0


def _complain(message: str) -> int:
    if message:  # empty when the help was printed instead
        sys.stderr.write(f"nerf-lipsync: {message}\n")
    return EXIT_BAD_INPUT
