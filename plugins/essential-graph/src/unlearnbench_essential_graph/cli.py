"""The commands of the essential graph: see what a run's graph selects, write it, draw it, and look at the pictures."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from unlearnbench.api.errors import DataError, UnlearnBenchError, UsageError

EXIT_CODES = """\b
Exit codes:
  0  done
  2  usage: a value that is not allowed
  3  incompatible: the run left no essential graph, or no pictures
  5  data: files are missing or damaged, or cannot be written"""
Command = TypeVar("Command", bound=Callable[..., Any])
_RUN = click.argument("run", type=click.Path(path_type=Path))
_HELP = {"help_option_names": ["-h", "--help"]}


def _out(kind: str) -> Callable[[Command], Command]:
    return click.option(
        "-o", "--out", required=True, type=click.Path(path_type=Path), help=f"The {kind} file that is written."
    )


@click.group(epilog=EXIT_CODES, context_settings=_HELP)
def app() -> None:
    """Essential graphs and recovered pictures; RUN is a folder that a run left."""


@app.command("show", context_settings=_HELP)
@_RUN
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(run: Path, as_json: bool) -> None:
    """Say for each layer of the graph of RUN how many channels the targets select, and how many are pruned."""
    from unlearnbench_essential_graph.folders import read_graph
    from unlearnbench_essential_graph.graph import described

    found = described(read_graph(run))
    click.echo(json.dumps(found, indent=1, ensure_ascii=False) if as_json else "\n".join(map(_plain, _text(found))))


@app.command("export", context_settings=_HELP)
@_RUN
@_out("JSON")
@click.option("--no-edges", is_flag=True, help="Write no edges; nodes say all that was decided by.")
def export(run: Path, out: Path, no_edges: bool) -> None:
    """Write the graph of RUN as JSON that networkx and d3 read: nodes, values, and edges."""
    from unlearnbench_essential_graph.exporting import write_json
    from unlearnbench_essential_graph.folders import read_graph

    graph = read_graph(run)
    with _replacing(out) as temporary, temporary.open("w", encoding="utf-8") as file:
        nodes, edges = write_json(graph, file, edges=not no_edges)
    click.echo(_plain(f"{out}: {nodes:,} nodes, {'no edges' if no_edges else f'{edges:,} edges'}"))


@app.command("draw", context_settings=_HELP)
@_RUN
@_out(".svg")
def draw(run: Path, out: Path) -> None:
    """Draw the graph of RUN: layers as columns, channels as dots in the colour of who selects them."""
    from unlearnbench_essential_graph.drawing import draw as drawn
    from unlearnbench_essential_graph.folders import read_graph

    _expect(out, ".svg")
    picture = drawn(read_graph(run))
    with _replacing(out) as temporary:
        temporary.write_text(picture, "utf-8")
    click.echo(_plain(str(out)))


@app.command("pictures", context_settings=_HELP)
@_RUN
@_out(".png or .svg")
def pictures(run: Path, out: Path) -> None:
    """Show what `target-inversion` recovered from original, gold and unlearned model of RUN beside the rows' mean."""
    from unlearnbench_essential_graph.folders import read_pictures
    from unlearnbench_essential_graph.pictures import save_pictures

    _expect(out, ".png", ".svg")
    found = read_pictures(run)
    with _replacing(out) as temporary:
        save_pictures(found, temporary, out.suffix.lower()[1:])
    click.echo(_plain(f"{out}: pictures of {', '.join(found)}"))


def main(arguments: list[str] | None = None) -> None:
    """Run a command and exit with its code; an error is one line."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    sys.exit(_run(arguments))


def _run(arguments: list[str] | None) -> int:
    try:
        app.main(arguments, prog_name="unlearnbench-essential-graph", standalone_mode=False)
        sys.stdout.flush()
        return 0
    except UnlearnBenchError as problem:
        return _fail(str(problem), problem.exit_code)
    except click.exceptions.NoArgsIsHelpError as problem:
        click.echo(problem.format_message())
        return 2
    except click.ClickException as problem:
        context = problem.ctx if isinstance(problem, click.UsageError) else None
        command = context.command_path if context else "unlearnbench-essential-graph"
        return _fail(f"[usage] {command}: {problem.format_message().rstrip('.')}; see `{command} --help`", 2)
    except (KeyboardInterrupt, click.Abort):
        return _fail("[interrupted] stopped; nothing was written", 6)
    except (SystemExit, BrokenPipeError):  # the reader went away, as after ``| head``
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13


def _fail(message: str, code: int) -> int:
    click.echo(f"error: {_plain(message)}", err=True)
    return code


def _plain(text: str) -> str:
    """A line without signs that could rewrite a terminal."""
    return "".join(sign if sign.isprintable() else " " for sign in text).rstrip()


def _expect(out: Path, *suffixes: str) -> None:
    if out.suffix.lower() not in suffixes:
        raise UsageError("bad-output", f"{out.name!r} does not end in {' or '.join(suffixes)}", where="--out",
                         hint=f"name it {out.stem}{suffixes[0]}")  # fmt: skip


@contextmanager
def _replacing(out: Path) -> Iterator[Path]:
    """A path beside ``out`` to write to, which takes its place when nothing was raised."""
    try:
        with tempfile.TemporaryDirectory(prefix=".tmp-", dir=out.parent) as folder:
            temporary = Path(folder, "new")
            yield temporary
            temporary.replace(out)
    except OSError as problem:
        raise DataError("cannot-write", problem.strerror or str(problem), where=str(out),
                        hint="choose a folder that can be written") from problem  # fmt: skip


def _text(found: Mapping[str, Any]) -> Iterator[str]:
    """A graph in lines: what is forgotten, and a table of layers with a column for each target."""
    targets, forgotten, layers = found["targets"], found["forgotten"], found["layers"]
    pruned, channels = (sum(layer[key] for layer in layers) for key in ("pruned", "channels"))
    yield f"forgets {', '.join(forgotten) or 'nothing'}; {pruned} of {channels} channels are pruned"
    told = ", ".join(f"{name} {json.dumps(value)}" for name, value in found["settings"].items())
    if told:
        yield told.replace('"', "")
    yield ""
    # Many targets have no room side by side: then the retained ones are summed up.
    shown = [name for name in targets if name in forgotten or len(targets) <= 8]
    heads = ["channels", *shown, "forgotten only", "retained only", "both", "pruned"]
    rows = [
        [
            layer["channels"],
            *(layer["selected"][name] for name in shown),
            *(layer[key] for key in ("by_forgotten", "by_retained", "by_both", "pruned")),
        ]
        for layer in layers
    ]
    widths = [max(len(head), 6) for head in heads]
    first = max(len(layer["name"]) for layer in [*layers, {"name": "layer"}])
    yield "  ".join(["layer".ljust(first), *(head.rjust(width) for head, width in zip(heads, widths, strict=True))])
    for layer, row in zip(layers, rows, strict=True):
        cells = (f"{value}".rjust(width) for value, width in zip(row, widths, strict=True))
        yield "  ".join([layer["name"].ljust(first), *cells])


if __name__ == "__main__":
    main()
