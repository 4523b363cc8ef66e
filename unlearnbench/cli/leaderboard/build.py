"""``unlearnbench leaderboard build``: boards as a static site."""

from __future__ import annotations

from pathlib import Path

import click

from unlearnbench.cli.leaderboard.show import gather


@click.command("build")
@click.argument("sources", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default=Path("site"), show_default=True, help="Folder to write."
)
@click.option("--from-mlflow", "uri", metavar="URI", help="Take the records of an MLflow server or database, too.")
@click.option(
    "--history", "root", type=click.Path(path_type=Path), metavar="FOLDER",
    help="Folder with verifications and retractions. [default: leaderboard, if SOURCES are left out]",
)  # fmt: skip
def build_command(sources: tuple[Path, ...], output: Path, uri: str | None, root: Path | None) -> int:
    """Build the site: boards, entries, unlearners, measures, downloads and a feed, as files that need no server.

    SOURCES are submissions, folders of them, or folders of runs; leaderboard/submissions if there is one and nothing
    else is named. A site that is there is replaced, any other folder is not. What is not valid is left out and named,
    and the exit code is then 1.
    """
    from unlearnbench.leaderboard.history import changes
    from unlearnbench.leaderboard.ranking import boards
    from unlearnbench.leaderboard.site import build_site

    gathered, history = gather(sources, uri, root)
    for problem in gathered.problems:
        click.echo(f"error: {problem}", err=True)
    found = boards(gathered.entries)
    build_site(found, changes(gathered.entries, history), output)
    for board in found:
        click.echo(f"board  {board.suite.name}: {len(board.rows)} {'entry' if len(board.rows) == 1 else 'entries'}")
    click.echo(f"site   {output / 'index.html'}")
    return 1 if gathered.problems else 0
