"""The command line: light to start, one line for every error, documented exit codes."""

from __future__ import annotations

import os
import sys

import click

from unlearnbench.api.errors import UnlearnBenchError
from unlearnbench.cli.lazy import LazyGroup

EXIT_CODES = """\b
Exit codes:
  0  done
  1  done, but a check failed: a run diverged, a log entry was refused, a record is not valid
  2  usage: an unknown name, or a value that is not allowed
  3  incompatible: every part is known, but they do not go together
  4  a plugin is broken: it does not load, raises, hangs or breaks its contract
  5  data: files are missing or damaged, or cannot be written
  6  interrupted: the same command goes on from where it stopped"""

_COMMANDS = {
    "run": "unlearnbench.cli.run",
    "compare": "unlearnbench.cli.compare",
    "report": "unlearnbench.cli.report",
    "meta": "unlearnbench.cli.meta",
    "leaderboard": "unlearnbench.cli.leaderboard",
    "list": "unlearnbench.cli.browse",
    "show": "unlearnbench.cli.browse",
    "cite": "unlearnbench.cli.browse",
    "plugins": "unlearnbench.cli.browse",
    "schema": "unlearnbench.cli.browse",
    "validate": "unlearnbench.cli.check",
    "verify-certificate": "unlearnbench.cli.certificates",
    "doctor": "unlearnbench.cli.check",
    "check": "unlearnbench.cli.kit",
    "new": "unlearnbench.cli.new",
    "data": "unlearnbench.cli.manage",
    "store": "unlearnbench.cli.manage",
    "tracking": "unlearnbench.cli.manage",
}


def _version(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from unlearnbench import __version__

        click.echo(f"unlearnbench {__version__}")
        ctx.exit()


@click.group(
    cls=LazyGroup, commands_in=_COMMANDS, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Show the version and exit."
)
def app() -> None:
    """Evaluate machine unlearning: train, forget, compare with the gold model, keep a record that holds.

    Start with `unlearnbench run --unlearner salun`.
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    sys.exit(_run(arguments))


def _run(arguments: list[str] | None) -> int:
    try:
        result = app.main(arguments, prog_name="unlearnbench", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except UnlearnBenchError as problem:
        trace(problem)
        return _fail(str(problem), problem.exit_code)
    except click.exceptions.NoArgsIsHelpError as problem:
        click.echo(problem.format_message())
        return 2
    except click.ClickException as problem:
        command = problem.ctx.command_path if isinstance(problem, click.UsageError) and problem.ctx else "unlearnbench"
        return _fail(f"[usage] {command}: {problem.format_message().rstrip('.')}; see `{command} --help`", 2)
    except (KeyboardInterrupt, click.Abort) as stopped:
        if isinstance(stopped.__cause__, EOFError):  # click takes it for the end of a person's input
            return _internal(stopped.__cause__)
        return _fail("[interrupted] stopped; finished stages are kept and the same command goes on from here", 6)
    except (SystemExit, BrokenPipeError):
        # click itself ends with 1 when the reader goes away, which here would say that a check failed.
        return _reader_left()
    except Exception as problem:
        return _internal(problem)


def _internal(problem: BaseException) -> int:
    trace(problem)
    text = " ".join(f"{type(problem).__name__}: {problem}".split())[:300]
    return _fail(f"[internal] {text}; this is a bug: set UNLEARNBENCH_TRACEBACK=1 and report what it prints", 1)


def trace(problem: BaseException) -> None:
    """Print where an error comes from, if asked to: whoever writes a plugin needs more than its last line."""
    if os.environ.get("UNLEARNBENCH_TRACEBACK"):
        import traceback

        traceback.print_exception(problem)


def _reader_left() -> int:
    """Leave quietly, as after ``| head``, and keep the interpreter from flushing into nothing."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 128 + 13  # what a shell says of SIGPIPE


def _fail(message: str, code: int) -> int:
    from unlearnbench.plugins import printable

    print(f"error: {printable(message)}", file=sys.stderr)
    return code
