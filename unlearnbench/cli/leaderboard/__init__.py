"""``unlearnbench leaderboard``: suites, submissions, their verification, boards and the site."""

from __future__ import annotations

import click

from unlearnbench.cli.lazy import LazyGroup

_COMMANDS = {
    name: f"unlearnbench.cli.leaderboard.{name}" for name in ("suites", "bundle", "verify", "show", "build", "serve")
}


@click.group("leaderboard", cls=LazyGroup, commands_in=_COMMANDS)
def leaderboard_command() -> None:
    """Suites, submissions that strangers can verify, boards and the site."""
