"""``unlearnbench leaderboard suites``: what there is to be ranked on."""

from __future__ import annotations

import click

from unlearnbench.cli.browse import echo_json


@click.command("suites")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print the suites as one JSON list.")
def suites_command(name: str | None, as_json: bool) -> None:
    """List the suites, or show what one of them fixes."""
    from dataclasses import asdict

    from unlearnbench.leaderboard.suites import suite, suite_names

    found = [suite(name)] if name else [suite(each) for each in suite_names()]
    if as_json:
        echo_json([asdict(each) for each in found])
        return
    for each in found:
        seeds = ", ".join(map(str, each.seeds))
        click.echo(f"{each.name:<13} {each.summary}")
        click.echo(f"{'':<13} {len(each.parts)} scenarios, seeds {seeds}, at most {each.settings} settings tried")
        if name:
            for part in each.parts:
                click.echo(f"\n  {part.scenario}: {', '.join(part.measures)}")
                for axis in part.axes:
                    click.echo(f"    {axis.name:<11} {axis.measure}: {axis.key}")
