"""The commands of WF-Net: look at gates, draw them, and write the ordinary network without some classes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from unlearnbench.api.errors import UnlearnBenchError, UsageError, did_you_mean
from unlearnbench_wfnet.words import plain_text, share

EXIT_CODES = """\b
Exit codes:
  0  done
  2  usage: an unknown class, or a value that is not allowed
  5  data: files are missing or damaged, do not belong together, or cannot be written"""
THRESHOLDS = (0.5, 0.1)
_GATES = click.argument("file", type=click.Path(path_type=Path))
_HELP = {"help_option_names": ["-h", "--help"]}


@click.group(epilog=EXIT_CODES, context_settings=_HELP)
def app() -> None:
    """Gates of a WF-Net: `artifacts.safetensors`, which a run of `--unlearner wfnet` leaves beside its record."""


@app.command("show", context_settings=_HELP)
@_GATES
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(file: Path, as_json: bool) -> None:
    """Say what gates FILE holds: which base, layers and classes, and how many are closed."""
    from unlearnbench_wfnet.artifact import read

    found = _said(read(file))
    click.echo(json.dumps(found, indent=1, ensure_ascii=False) if as_json else _text(found))


@app.command("figure", context_settings=_HELP)
@_GATES
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="An .svg or .png file.")
@click.option("--class", "name", metavar="NAME", help="Order the filters by the gates of this class and frame its row.")
def figure(file: Path, out: Path, name: str | None) -> None:
    """Draw which filters the classes of FILE close, which of them two classes share, and how many each closes."""
    from unlearnbench_wfnet.artifact import read
    from unlearnbench_wfnet.figures import save_figure

    artifacts = read(file)
    first = None if name is None else _rows(artifacts, [name])[0]
    click.echo(plain_text(str(save_figure(artifacts, out, first=first))))


@app.command("bake", context_settings=_HELP)
@_GATES
@click.argument("base", type=click.Path(path_type=Path))
@click.option("--class", "names", metavar="NAME", required=True, multiple=True, help="A class to be forgotten; repeat.")
@click.option(
    "--harden", type=click.FloatRange(0, 1), default=0.5, show_default=True,
    help="Gates below this become exactly 0; 0 leaves all as they are.",
)  # fmt: skip
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="The file that is written.")
def bake(file: Path, base: Path, names: tuple[str, ...], harden: float, out: Path) -> None:
    """Write the weights of the ordinary network that does not know some classes.

    FILE holds the gates, BASE the state dict of the network that they were made for, as safetensors. The written file
    has the names and shapes of BASE and loads with `load_state_dict`.

    Gates filter, they do not delete: whoever has BASE has the class, and whoever has FILE as well can turn the filter
    off. A gate that is nearly 0 can be undone by rescaling the weights. To give a network away without a class, give
    away the baked and hardened file alone. What other layers know of the class is still in it.
    """
    from unlearnbench_wfnet.artifact import read
    from unlearnbench_wfnet.baking import baked_tensors, read_base, write_tensors

    if out.resolve() in (file.resolve(), base.resolve()):
        raise UsageError("bad-output", "is one of the files that are read", where="--out", hint="name another file")
    artifacts = read(file)
    found = baked_tensors(read_base(base), artifacts, _rows(artifacts, names), harden, where=str(base))
    write_tensors(out, found.tensors)
    without = ", ".join(map(plain_text, dict.fromkeys(names)))
    click.echo(f"{plain_text(str(out))}: without {without}; {found.zeros:,} of {found.gates:,} gates are exactly 0")


def main(arguments: list[str] | None = None) -> None:
    """Run a command and exit with its code; an error is one line."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    sys.exit(_run(arguments))


def _run(arguments: list[str] | None) -> int:
    try:
        app.main(arguments, prog_name="unlearnbench-wfnet", standalone_mode=False)
        sys.stdout.flush()
        return 0
    except UnlearnBenchError as problem:
        return _fail(str(problem), problem.exit_code)
    except click.exceptions.NoArgsIsHelpError as problem:
        click.echo(problem.format_message())
        return 2
    except click.ClickException as problem:
        command = (
            problem.ctx.command_path if isinstance(problem, click.UsageError) and problem.ctx else "unlearnbench-wfnet"
        )
        return _fail(f"[usage] {command}: {problem.format_message().rstrip('.')}; see `{command} --help`", 2)
    except (KeyboardInterrupt, click.Abort):
        return _fail("[interrupted] stopped; nothing was written", 6)
    except (SystemExit, BrokenPipeError):  # the reader went away, as after ``| head``
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13


def _fail(message: str, code: int) -> int:
    click.echo(f"error: {plain_text(message)}", err=True)
    return code


def _rows(artifacts: Mapping[str, Any], names: Sequence[str]) -> list[int]:
    """Positions of classes by their names."""
    classes: list[str] = artifacts["classes"]
    for name in names:
        if name not in classes:
            hint = did_you_mean(name, classes, otherwise=f"there are {len(classes)}, {classes[0]} to {classes[-1]}")
            raise UsageError("unknown-class", f"there is no class {name!r}", where="--class", hint=hint)
    return [classes.index(name) for name in names]


def _said(artifacts: Mapping[str, Any]) -> dict[str, Any]:
    """What ``show`` says, as JSON."""
    from unlearnbench_wfnet.relations import closed_by_class, closed_by_layer

    by_layer = {below: closed_by_layer(artifacts, below) for below in THRESHOLDS}
    by_class = {below: closed_by_class(artifacts, below).tolist() for below in THRESHOLDS}
    classes = artifacts["classes"]
    return {
        **{name: artifacts[name] for name in ("format", "base", "mask_bn", "harden", "parameters", "log")},
        "rows": [{"row": row, "name": classes[row]} for row in artifacts["rows"]],
        "layers": [
            {**layer, "closed": {f"{below:g}": by_layer[below][layer["name"]] for below in THRESHOLDS}}
            for layer in artifacts["layers"]
        ],
        "classes": [
            {"name": name, "closed": {f"{below:g}": by_class[below][row] for below in THRESHOLDS}}
            for row, name in enumerate(classes)
        ],
    }


def _text(found: Mapping[str, Any]) -> str:
    """The same for people."""
    forgotten = ", ".join(plain_text(row["name"]) for row in found["rows"]) or "no class"
    gates = sum(layer["width"] * (1 + layer["bias"]) for layer in found["layers"])
    lines = [
        f"{found['format']}: {gates:,} gates for each of {len(found['classes']):,} classes",
        f"base       {found['base']}",
        f"forgets    {forgotten}; gates below {found['harden']:g} are 0, mask_bn {str(found['mask_bn']).lower()}",
        f"untrained  {_course(found['log'])}",
        "",
        *_table("layer", found["layers"], lambda layer: f"{layer['kind']}, {layer['width']:,}"),
        "",
        *_table("class", found["classes"], lambda _: ""),
    ]
    return "\n".join(line.rstrip() for line in lines)


def _course(log: Sequence[Mapping[str, float]]) -> str:
    losses = [look["loss"] for look in log if "loss" in look]
    if not losses:
        return "without a look at a validation loss"
    return f"{len(log)} looks at the validation loss, the least {min(losses):.4g}"


def _table(heading: str, rows: Sequence[Mapping[str, Any]], said: Any) -> list[str]:
    """Names, what is said of them, and shares of closed gates."""
    cells = [[heading, "", *(f"< {below:g}" for below in THRESHOLDS)]]
    cells += [[plain_text(row["name"]), said(row), *map(share, row["closed"].values())] for row in rows]
    wide = [max(len(line[place]) for line in cells) for place in range(4)]
    return [
        "  ".join([line[0].ljust(wide[0]), line[1].ljust(wide[1]), line[2].rjust(wide[2]), line[3].rjust(wide[3])])
        for line in cells
    ]


if __name__ == "__main__":
    main()
