"""The commands of PRUNE: see what a run certifies, hand out model and certificates, and take the model elsewhere."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from unlearnbench.api.errors import UnlearnBenchError
from unlearnbench_verifier.findings import Refusal

EXIT_CODES = """\b
Exit codes:
  0  done
  2  usage: a value that is not allowed, or a model that cannot be written so
  3  incompatible: the run has no certificate of prune
  5  data: files are missing or damaged, do not belong together, or cannot be written"""
SHOWN = 20
"""Rows without a certificate that are named."""
_RUN = click.argument("run", type=click.Path(path_type=Path))
_HELP = {"help_option_names": ["-h", "--help"]}


@click.group(epilog=EXIT_CODES, context_settings=_HELP)
def app() -> None:
    """Certificates and patched models of PRUNE; RUN is a folder that a run of `--unlearner prune` left."""


@app.command("show", context_settings=_HELP)
@_RUN
@click.option("--json", "as_json", is_flag=True, help="Print the certificate of the record as JSON.")
def show(run: Path, as_json: bool) -> None:
    """Say what the record of RUN certifies, and which rows have no certificate and why."""
    from unlearnbench_prune.papers import read_certificate

    found = read_certificate(run)
    click.echo(json.dumps(found, indent=1, ensure_ascii=False) if as_json else "\n".join(map(_plain, _text(found))))


@app.command("export", context_settings=_HELP)
@_RUN
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="A folder that is new or empty.")
@click.option("--owner", is_flag=True, help="Write owner/ as well: certificates with salt, row and label; keep it.")
@click.option("--key", type=click.Path(path_type=Path), help="An ed25519 key, unencrypted PEM, that signs them.")
@click.option("--created", metavar="TIME", help="The time that certificates state, such as 2026-01-31T12:00:00Z.")
def export(run: Path, out: Path, owner: bool, key: Path | None, created: str | None) -> None:
    """Write the patched model and the certificates of RUN, of rows or of classes, for those who check them.

    The folder has model.safetensors, certificates/0000.json and so on, without rows, labels and salts, and issue.json,
    which binds them to each other and to what was issued before. A claim with a radius has a centre, and that is the
    row itself: in the model and in these copies too. `unlearnbench-verify-certificate` checks them without the run,
    and, with the row's file of owner/, that a certificate is about that row. Who reads the model can tell which regions
    were forgotten unless the gate is committed; its base weights are unchanged.
    """
    from unlearnbench_prune.papers import export as write
    from unlearnbench_prune.papers import read_papers

    papers = read_papers(run)
    write(papers, out, owner=owner, key=key, created=created)
    count = len(papers.certificates)
    kept = ", and in owner/ what only the owner of the rows may see" if owner else ""
    click.echo(_plain(f"{out}: the model and {count} certificate{'' if count == 1 else 's'}{kept}"))


@app.command("torchscript", context_settings=_HELP)
@_RUN
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="The file that is written.")
def torchscript(run: Path, out: Path) -> None:
    """Write the patched model of RUN as TorchScript, for where there is no Python.

    A model that is split takes the features at the split. Committed gates cannot be written: TorchScript has no sha256.
    """
    from unlearnbench_prune.papers import read_papers, write_script

    write_script(read_papers(run), out)
    click.echo(_plain(str(out)))


def main(arguments: list[str] | None = None) -> None:
    """Run a command and exit with its code; an error is one line."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    sys.exit(_run(arguments))


def _run(arguments: list[str] | None) -> int:
    try:
        app.main(arguments, prog_name="unlearnbench-prune", standalone_mode=False)
        sys.stdout.flush()
        return 0
    except (UnlearnBenchError, Refusal) as problem:
        return _fail(str(problem), problem.exit_code)
    except click.exceptions.NoArgsIsHelpError as problem:
        click.echo(problem.format_message())
        return 2
    except click.ClickException as problem:
        context = problem.ctx if isinstance(problem, click.UsageError) else None
        command = context.command_path if context else "unlearnbench-prune"
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


def _text(found: Mapping[str, Any]) -> Iterator[str]:
    """What a record's certificate says, in lines."""
    gate, box, radius = found["gate"], found["box"], found["radius"]
    sharp = gate.get("sharpness")
    where = "the whole region" if radius is None else f"radius {radius}"
    yield (
        f"{found['certified']} of {found['rows']} rows are certified; {found['empirical']} are redirected without a "
        f"proof, {found['failed']} are predicted as before"
    )
    yield ""
    if found["form"] == "class-global":
        yield "form       class-global: no patch, the outputs of classes are lowered everywhere"
    else:
        yield f"form       {found['form']}, multi {found['multi']}"
        yield f"gate       {gate.get('kind')}{'' if sharp is None else f', sharpness {sharp:g}'}; {where}"
    yield f"margin     {found['margin']:g}, on inputs from {box.get('low')} to {box.get('high')}"
    yield f"base       {found['base']}"
    yield f"patched    {found['patched']}{', split at ' + found['split_at'] if found['split_at'] else ''}"
    yield f"issue      {found['issue']}, after request {found['served'] - 1}"
    yield f"before it  {found['previous'] or 'nothing was issued'}"
    without = found["uncertified"]
    if without:
        yield ""
        yield "rows without a certificate"
    for row in without[:SHOWN]:
        yield f"  {row.get('row')}: {row.get('status')}{', ' + row['reason'] if row.get('reason') else ''}"
    if len(without) > SHOWN:
        yield f"  and {len(without) - SHOWN} more; --json has them all"
    yield ""
    yield found["means"]


if __name__ == "__main__":
    main()
