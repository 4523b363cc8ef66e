"""Commands that look: list, show, cite, plugins, schema."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from typing import Any

import click

from unlearnbench.api.errors import PluginError, UsageError
from unlearnbench.api.params import param_fields
from unlearnbench.api.specs import (
    DIRECTIONS,
    EFFORTS,
    INPUTS,
    REQUESTS,
    TASKS,
    MeasureSpec,
    Spec,
)
from unlearnbench.api.tables import TableSpec
from unlearnbench.cli.papers import cited, show_paper
from unlearnbench.plugins import load_plugins
from unlearnbench.registry import BroughtTable, Component, registry

TABLE = TableSpec.kind
KINDS = {"datasets": "dataset", "models": "model", "unlearners": "unlearner", "measures": "measure"}


def echo_json(document: Any) -> None:
    """One JSON document on standard output."""
    click.echo(json.dumps(document, indent=1, sort_keys=True, allow_nan=False))


def _columns(lines: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]) - 1)] if lines else []
    for line in lines:
        padded = [text.ljust(width) for text, width in zip(line, widths, strict=False)]
        click.echo("  ".join([*padded, line[-1]]).rstrip())


@click.command("list")
@click.argument("kind", type=click.Choice([*KINDS, "tables", "scenarios"]))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_command(kind: str, as_json: bool) -> None:
    """List what is installed: datasets, models, unlearners, measures, tables of papers, or scenarios."""
    if kind == "scenarios":
        from unlearnbench.config import scenario, scenario_names

        scenes = [scenario(name) for name in scenario_names()]
        if as_json:
            echo_json(scenes)
        else:
            _columns([(scene["name"], scene["summary"]) for scene in scenes])
        return
    if kind == "tables":
        _list_tables(as_json)
        return
    components = registry().components(KINDS[kind])
    if as_json:
        echo_json([{**c.spec.to_json(), "distribution": c.plugin.distribution} for c in components])
    else:
        _columns(
            [
                (c.spec.name, cited(c.spec.paper), _capabilities(c.spec), c.plugin.distribution, c.spec.summary)
                for c in components
            ]
        )
    _report_problems()


def _list_tables(as_json: bool) -> None:
    tables = registry().tables()
    if as_json:
        echo_json([{**table.spec.to_json(), "distribution": table.plugin.distribution} for table in tables])
    else:
        _columns([(t.spec.name, cited(t.spec.paper), t.plugin.distribution, t.spec.summary) for t in tables])
    _report_problems()


def _capabilities(spec: Spec) -> str:
    """Tasks, then requests and inputs, of those kinds that have them."""
    sets = (("tasks", TASKS), ("requests", REQUESTS), ("inputs", INPUTS))
    found = [(getattr(spec, name), every) for name, every in sets if hasattr(spec, name)]
    return " | ".join("all" if len(able) == len(every) else ",".join(able) for able, every in found)


def _report_problems() -> None:
    for line in registry().problems():
        click.echo(f"warning: {line}", err=True)


@click.command("show")
@click.argument("name")
@click.option("--kind", type=click.Choice(sorted([*KINDS.values(), TABLE])), help="When several kinds have the name.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with the JSON Schema of the parameters.")
def show_command(name: str, kind: str | None, as_json: bool) -> None:
    """Show a component (its parameters, paper, deviations), a table of a paper, a scenario, or the `recipe`."""
    from unlearnbench.config import scenario, scenario_names

    if name == "recipe":
        _show_recipe(as_json)
        return
    if name in scenario_names():
        _show_scenario(scenario(name), as_json)
        return
    component = _find(name, kind)
    if isinstance(component, BroughtTable):
        _show_table(component, as_json)
        return
    if as_json:
        from unlearnbench.parameters import parameters_schema

        document = component.spec.to_json()
        echo_json({**document, "origin": component.origin(), "parameters": parameters_schema(component.spec.params)})
        return
    _show_component(component)


def _find(name: str, kind: str | None) -> Component | BroughtTable:
    if kind == TABLE:
        return registry().table(name, where="show")
    kinds = [kind] if kind else list(KINDS.values())
    found: list[Component | BroughtTable] = [registry().get(k, name) for k in kinds if name in registry().names(k)]
    if not kind and not found:  # a component wins: a method and its paper's table may well share a name
        found += [table for table in registry().tables() if table.spec.name == name]
    if len(found) > 1:
        which = " or ".join(type(c.spec).kind for c in found)
        raise UsageError("ambiguous-name", f"{name!r} is a {which}", where="show", hint="say which with --kind")
    if not found:
        from unlearnbench.config import scenario_names
        from unlearnbench.registry import unknown

        for k in kinds:
            if (k, name) in registry().duplicates:
                registry().get(k, name)
        if not kind and name in registry().duplicate_tables:
            registry().table(name)
        others = [] if kind else [*(table.spec.name for table in registry().tables()), *scenario_names()]
        raise unknown("component", name, [n for k in kinds for n in registry().names(k)] + others)
    return found[0]


def _show_readings(spec: MeasureSpec) -> None:
    click.echo(f"  takes: {EFFORTS[spec.effort]}")
    if spec.shorthand:
        click.echo(f"  {spec.name}:A,B sets {spec.shorthand} to A and B")
    click.echo("\nreadings")
    for reading in spec.readings:
        unit = f", {reading.unit}" if reading.unit else ""
        click.echo(f"  {reading.name}  ({DIRECTIONS[reading.better]}{unit})")
        click.echo(textwrap.fill(reading.summary, 100, initial_indent="      ", subsequent_indent="      "))


def _show_component(component: Component) -> None:
    spec = component.spec
    origin = component.origin()
    click.echo(f"{spec.name} ({type(spec).kind}) from {origin['distribution']} {origin['distribution_version']}")
    click.echo(f"  {spec.summary}")
    for word in ("tasks", "requests", "inputs", "reads", "invariant_to"):
        values = getattr(spec, word, None)
        if values:
            click.echo(f"  {word.replace('_', ' ')}: {', '.join(values)}")
    if getattr(spec, "stage_only", False):
        click.echo("  a stage of a chain, before another unlearner")
    if isinstance(spec, MeasureSpec):
        _show_readings(spec)
    _show_parameters(spec.params)
    if spec.paper:
        show_paper(spec.paper)
    _show_scenario_recipes(spec.name)


def _show_table(table: BroughtTable, as_json: bool) -> None:
    spec = table.spec
    if as_json:
        echo_json({**spec.to_json(), "distribution": table.plugin.distribution})
        return
    click.echo(f"{spec.name} (table) from {table.plugin.distribution}\n  {spec.summary}\n\ncolumns")
    for column in spec.columns:
        times = f", times {column.scale:g}" if column.scale != 1 else ""
        counted = ", and how many runs have no value" if column.failures else ""
        click.echo(f"  {column.heading}  ({column.measure}: {column.key}{times}{counted})")
    click.echo("\nrows before the unlearners")
    for subject, heading in spec.subjects:
        click.echo(f"  {heading}  ({subject})")
    if spec.paper:
        show_paper(spec.paper)


def _show_parameters(params: type[Any]) -> None:
    fields = param_fields(params)
    if fields:
        click.echo("\nparameters")
    for field in fields:
        bounds = " ".join(
            f"{sign}{getattr(field.param, bound):g}"
            for bound, sign in (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<"))
            if getattr(field.param, bound) is not None
        )
        default = json.dumps(field.default)
        click.echo(f"  {field.name} = {default}  {_type_name(field.type)} {bounds}".rstrip())
        click.echo(textwrap.fill(field.param.help, 100, initial_indent="      ", subsequent_indent="      "))


def _show_recipe(as_json: bool) -> None:
    from unlearnbench.api.recipe import Recipe

    if as_json:
        from unlearnbench.parameters import parameters_schema

        echo_json({"name": "recipe", "parameters": parameters_schema(Recipe)})
        return
    click.echo("recipe\n  How original and gold are trained; set with --set recipe.epochs=5.")
    _show_parameters(Recipe)


def _type_name(kind: Any) -> str:
    from typing import Literal, get_args, get_origin

    if get_origin(kind) is Literal:
        return " | ".join(str(a) for a in get_args(kind))
    return kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(kind).replace("typing.", "")


def _show_scenario_recipes(name: str) -> None:
    from unlearnbench.config import scenario, scenario_names

    lines = []
    for place in scenario_names():
        own = scenario(place).get("unlearners", {}).get(name)
        if own:
            values = ", ".join(f"{k}={json.dumps(v)}" for k, v in own["params"].items())
            lines.append(f"  {place}: {values}\n      {own['differs']}")
    if lines:
        click.echo("\nrecipes of scenarios, where they differ from the defaults")
        click.echo("\n".join(lines))


def _show_scenario(scene: dict[str, Any], as_json: bool) -> None:
    if as_json:
        echo_json(scene)
        return
    click.echo(f"{scene['name']} (scenario)\n  {scene['summary']}")
    for part in ("dataset", "model"):
        click.echo(f"  {part}: {scene[part]['name']} {json.dumps(scene[part].get('params', {}))}")
    click.echo(f"  recipe: {json.dumps(scene['recipe'])}")
    for request in scene["requests"]:
        click.echo(f"  forget: {json.dumps(request)}")
    click.echo(f"  measures: {', '.join(scene['measures'])}")
    for name, own in scene.get("unlearners", {}).items():
        click.echo(f"  {name}: {json.dumps(own['params'])}\n      {own['differs']}")


@click.command("cite")
@click.argument("names", nargs=-1)
@click.option("-u", "--unlearner", "unlearners", multiple=True, metavar="NAME", help="Unlearner to cite. Repeatable.")
def cite_command(names: tuple[str, ...], unlearners: tuple[str, ...]) -> None:
    """Print BibTeX of components; without a name, of everything that has a paper."""
    if not names and not unlearners:
        found: list[Component | BroughtTable] = [c for kind in KINDS.values() for c in registry().components(kind)]
        found += registry().tables()
    else:
        found = [_find(name, None) for name in names] + [_find(name, "unlearner") for name in unlearners]
    entries = {}
    for component in found:
        paper = component.spec.paper
        if paper and paper.bibtex:
            entries[paper.bibtex] = True
        elif names or unlearners:
            lacks = "no bibtex" if paper else "no paper"
            click.echo(f"% {component.spec.name}: {lacks}; cite {component.plugin.distribution}")
    for bibtex in entries:
        click.echo(f"{bibtex}\n")


@click.command("plugins")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def plugins_command(as_json: bool) -> int:
    """Show every plugin: where it comes from, what it brings, and why a broken one does not load."""
    plugins = load_plugins()
    if as_json:
        echo_json({"plugins": [p.to_json() for p in plugins], "problems": registry().problems()})
    else:
        for plugin in plugins:
            origin = f"{plugin.distribution} {plugin.version}".strip()
            brings = ", ".join(f"{kind} {name}" for kind, name in plugin.brings)
            click.echo(f"{plugin.name}  {origin}\n    {'BROKEN ' + plugin.error if plugin.error else brings}")
            for warning in plugin.warnings:
                click.echo(f"    warning: {warning}")
        for (kind, name), both in sorted(registry().duplicates.items()):
            click.echo(f"DUPLICATE {kind} {name}: {' and '.join(c.plugin.distribution for c in both)}; none is used")
        for name, tables in registry().duplicate_tables.items():
            click.echo(f"DUPLICATE table {name}: {' and '.join(t.plugin.distribution for t in tables)}; none is used")
    return PluginError.exit_code if registry().problems() else 0


@click.command("schema")
@click.argument("name", required=False)
def schema_command(name: str | None) -> None:
    """Print a JSON Schema; without a name, list them."""
    from unlearnbench.schemas import schema, schema_names

    if name is None:
        click.echo("\n".join(schema_names()))
    else:
        echo_json(schema(name))
