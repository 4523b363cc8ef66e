"""``unlearnbench leaderboard serve``: a local look at the site."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("serve")
@click.argument("folder", default=Path("site"), type=click.Path(path_type=Path))
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="Port; 0 takes a free one."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; others can then look, too.")
def serve_command(folder: Path, port: int, host: str) -> int:
    """Serve a site that `leaderboard build` made, until Ctrl-C. Only files of FOLDER, and only for reading."""
    from unlearnbench.api.errors import DataError, UsageError
    from unlearnbench.leaderboard.site.serve import server

    if not (folder / "index.html").is_file():
        raise DataError("not-a-site", "has no index.html", where=str(folder),
                        hint="make it with `unlearnbench leaderboard build -o site`")  # fmt: skip
    try:
        found = server(folder, host, port)
    except OSError as problem:
        raise UsageError("cannot-listen", problem.strerror or str(problem), where=f"{host}:{port}",
                         hint="choose another --port or --host") from problem  # fmt: skip
    with found:
        click.echo(f"http://{host}:{found.server_address[1]}/  (Ctrl-C ends)")
        try:
            found.serve_forever()
        except KeyboardInterrupt:
            click.echo("ended")
    return 0
