"""``unlearnbench leaderboard bundle``: runs become a submission."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

if TYPE_CHECKING:
    from unlearnbench.leaderboard.submission import Submission


@click.command("bundle")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--suite", "suite_name", metavar="NAME", help="The suite of the runs, where they fit more than one.")
@click.option("--name", required=True, metavar="NAME", help="Name of the submission: lower-case words joined by -.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Folder to write; it must be new.")
@click.option("--author", "authors", multiple=True, required=True, help="Who stands for the results. Repeatable.")
@click.option("--licence", required=True, metavar="SPDX", help="Licence of the submission, such as CC-BY-4.0.")
@click.option("--paper", metavar="URL", help="Address of the paper.")
@click.option(
    "--tuning",
    required=True,
    type=click.Choice(["none", "validation", "test", "gold"]),
    help="The best informed readings that were looked at while parameters were chosen: none, those of a validation "
    "split of the training data, those on test data, or those of the gold model. The last two are ranked apart.",
)
@click.option(
    "--settings",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="How many settings of an unlearner were tried for a scenario, at most.",
)
@click.option("--notes", default="", help="What readers should know, as plain text.")
@click.option("--unlearner", "unlearners", multiple=True, metavar="NAME", help="Pack only this one. Repeatable.")
@click.option("--scenario", "scenarios", multiple=True, metavar="NAME", help="Pack only this one. Repeatable.")
@click.option("--weights", is_flag=True, help="Pack the weights of all models, from the runs' store.")
@click.option(
    "--store", type=click.Path(path_type=Path), help="Where the weights are. [default: store in the first of PATHS]"
)
@click.option(
    "--sign", "key", metavar="KEY", help="Sign with this private EC key (PEM), or with `sigstore`, over the network."
)
@click.option(
    "--re-attack",
    metavar="SUBMISSION",
    help="These runs are a stronger attack on the runs of a submission: its name, or its folder to compare with.",
)
def bundle_command(
    paths: tuple[Path, ...],
    suite_name: str | None,
    name: str,
    out: Path,
    authors: tuple[str, ...],
    licence: str,
    paper: str | None,
    tuning: str,
    settings: int,
    notes: str,
    unlearners: tuple[str, ...],
    scenarios: tuple[str, ...],
    weights: bool,
    store: Path | None,
    key: str | None,
    re_attack: str | None,
) -> None:
    """Pack runs of a suite into a submission that others can verify.

    PATHS are folders of runs. What is no run of the suite stays behind; failed and diverged runs go along, since a
    submission has every seed. The folder is written whole or not at all.
    """
    from unlearnbench.cli.compare import read_records
    from unlearnbench.cli.progress import watched
    from unlearnbench.leaderboard.board import Statement
    from unlearnbench.leaderboard.bundle import pack
    from unlearnbench.leaderboard.selection import only_suite, select, told
    from unlearnbench.leaderboard.suites import suite
    from unlearnbench.plugins import printable
    from unlearnbench.registry import registry
    from unlearnbench.store import Store

    records, problems = read_records(paths)
    for problem in problems:  # a run that cannot be read may be one that must not be dropped
        raise problem
    attacked = _attacked(re_attack)
    chosen = suite(suite_name) if suite_name else only_suite(records, registry())
    selection = select(
        records, chosen, registry(), unlearners=unlearners, scenarios=scenarios, attack=re_attack is not None
    )
    if selection.left_out:
        click.echo(printable(f"left out: {told(selection.left_out)}"), err=True)
    signer: Path | Literal["sigstore"] | None = "sigstore" if key == "sigstore" else Path(key) if key else None
    pack(
        selection.records,
        name=name,
        suite=chosen,
        statement=Statement(authors, paper, licence, tuning, settings, notes),
        out=out,
        weights=Store(store or paths[0] / "store") if weights else None,
        key=signer,
        re_attacks=attacked.name if attacked else re_attack,
        attacked=attacked,
        progress=_tell if watched() else lambda line: None,
    )
    files = [path for path in out.rglob("*") if path.is_file()]
    found = sorted({record.unlearner for record in selection.records})
    packed = sorted({str(record.document["spec"]["scenario"]) for record in selection.records})
    click.echo(f"unlearners  {', '.join(found)}")
    click.echo(f"scenarios   {', '.join(packed)}")
    click.echo(f"packed      {len(selection.records)} runs of {chosen.name} in {len(files)} files, {_size(files)}")
    click.echo(f"next        unlearnbench leaderboard verify {shlex.quote(str(out))}")


def _tell(line: str) -> None:
    """How far it is, on a line of its own that the next one takes over."""
    click.echo(f"\r\x1b[K{line}", nl=False, err=True)


def _attacked(re_attack: str | None) -> Submission | None:
    """The submission that is attacked, where its folder was given."""
    from unlearnbench.leaderboard.read import read_submission

    return read_submission(Path(re_attack)) if re_attack and Path(re_attack).is_dir() else None


def _size(files: list[Path]) -> str:
    size = sum(path.stat().st_size for path in files)
    return f"{size / 2**20:.1f} MiB" if size >= 2**20 else f"{size / 2**10:.0f} KiB"
