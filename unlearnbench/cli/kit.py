"""``unlearnbench check``: the conformance kit on the command line."""

from __future__ import annotations

from collections import Counter

import click

from unlearnbench.api.errors import PluginError
from unlearnbench.cli.browse import echo_json

MARKS = {"passed": "ok", "failed": "FAILED", "expected": "expected", "not-applicable": "-"}


@click.command("check")
@click.argument("distributions", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("-v", "--verbose", is_flag=True, help="Show the checks that passed or do not apply as well.")
def check_command(distributions: tuple[str, ...], as_json: bool, verbose: bool) -> int:
    """Hold the components of installed distributions to the plugin contract, sentence by sentence."""
    from unlearnbench.testing import outcomes

    found = [outcome for distribution in distributions for outcome in outcomes(distribution)]
    failed = [outcome for outcome in found if outcome.status == "failed"]
    if as_json:
        echo_json([outcome.to_json() for outcome in found])
        return PluginError.exit_code if failed else 0
    for name in dict.fromkeys((outcome.kind, outcome.component) for outcome in found):
        mine = [outcome for outcome in found if (outcome.kind, outcome.component) == name]
        counts = Counter(outcome.status for outcome in mine)
        click.echo(f"{name[0]} {name[1]}: " + ", ".join(f"{n} {status}" for status, n in sorted(counts.items())))
        for outcome in mine:
            if verbose or outcome.status in ("failed", "expected"):
                click.echo(f"  {MARKS[outcome.status]:<9} {outcome.check}: {outcome.sentence}")
                if outcome.message:
                    click.echo(f"            {outcome.message}")
    click.echo(f"{len(found)} checks, {len(failed)} failed")
    return PluginError.exit_code if failed else 0
