"""``unlearnbench new``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import get_args

import click

from unlearnbench.api.specs import Kind
from unlearnbench.scaffold import Licence

_LICENCES = get_args(Licence)


@click.command("new")
@click.argument("kind", type=click.Choice(get_args(Kind)))
@click.argument("name")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path(), help="Folder for the new one. [default: this folder]"
)
@click.option("--author", default="", metavar="NAME", help="Who holds the rights. [default: The authors of ...]")
@click.option("--licence", type=click.Choice(_LICENCES), default=_LICENCES[0], show_default=True, help="Its licence.")
@click.option("--summary", default="", metavar="TEXT", help="What it does, in one line.")
def new_command(kind: Kind, name: str, out: Path, author: str, licence: Licence, summary: str) -> None:
    """Write a plugin to start from: a folder unlearnbench-NAME with an example that works, tests and workflows.

    It asks nothing, downloads nothing and runs nothing.
    """
    from unlearnbench.registry import registry
    from unlearnbench.scaffold.render import new_plugin

    folder = new_plugin(kind, name, registry(), out=out, author=author, licence=licence, summary=summary)
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    click.echo(f"{folder}: {len(files)} files")
    for file in files:
        click.echo(f"  {file.as_posix()}")
    click.echo("next")
    click.echo(f"  pip install --editable {shlex.quote(str(folder if folder.is_absolute() else Path('.', folder)))}")
    click.echo(f"  unlearnbench show {name}")
