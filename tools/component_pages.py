"""Pages of components, and of the distributions that bring them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from distributions import HOST, Distribution
from markup import MADE, anchor, anchored, escaped, slug, table, wrapped

from unlearnbench.api import Recipe
from unlearnbench.api.params import Param, param_fields
from unlearnbench.api.specs import DIRECTIONS, EFFORTS, DatasetSpec, MeasureSpec, ModelSpec, Paper, UnlearnerSpec
from unlearnbench.registry import BroughtTable, Component, registry

KINDS = {"dataset": "Data sets", "model": "Models", "unlearner": "Unlearners", "measure": "Measures"}


def type_name(kind: Any) -> str:
    """A parameter's type in words."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return " or ".join(f"`{a}`" for a in arguments)
    if origin in (Union, UnionType):
        return " or ".join("none" if a is NoneType else type_name(a) for a in arguments)
    if origin is tuple:
        return f"list of {type_name(arguments[0])}"
    return {"str": "text", "bool": "true or false"}.get(kind.__name__, str(kind.__name__))


def bounds(param: Param) -> str:
    """A parameter's range."""
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    found = [f"{sign} {getattr(param, name):g}" for name, sign in signs.items() if getattr(param, name) is not None]
    if param.min_length is not None:
        found.append(f"length >= {param.min_length}")
    return ", ".join(found)


def parameters(owner: str, params: type[Any], own: Sequence[str] | None = None) -> list[str]:
    """A table of the parameters of a component, or of those named."""
    fields = [field for field in param_fields(params) if own is None or field.name in own]
    phases = any(field.param.phase for field in fields)
    rows = [
        [
            anchored(owner, field.name),
            type_name(field.type),
            bounds(field.param),
            f"`{json.dumps(field.default)}`",
            *([field.param.phase or ""] if phases else []),
            field.param.help,
        ]
        for field in fields
    ]
    return table(["parameter", "type", "range", "default", *(["phase"] if phases else []), "meaning"], rows)


def component_page(kind: str) -> str:
    """The index of all components of a kind; each is described on the page of its plugin."""
    lines = [f"# {KINDS[kind]}", "", MADE, ""]
    rows = [
        [
            f"[`{c.spec.name}`](../plugins/{c.plugin.distribution}.md#{slug(c.spec.name)})",
            f"[{c.plugin.distribution}](../plugins/{c.plugin.distribution}.md)",
            c.spec.summary,
        ]
        for c in registry().components(kind)
    ]
    return "\n".join([*lines, *table(["name", "distribution", "summary"], rows), ""])


def _component(component: Component) -> Iterator[str]:
    spec = component.spec
    yield from (f"### {spec.name}", "", *wrapped(spec.summary), "")
    yield from (*table(["", ""], _facts(component)), "")
    fields = param_fields(spec.params)
    if fields:
        inherited = set()
        if issubclass(spec.params, Recipe):
            recipe = {(f.name, json.dumps(f.default), f.param) for f in param_fields(Recipe)}
            inherited = {f.name for f in fields if (f.name, json.dumps(f.default), f.param) in recipe}
        own = [f.name for f in fields if f.name not in inherited]
        if own:
            yield from (*parameters(spec.name, spec.params, own), "")
        if inherited:
            links = [
                f'<span id="{anchor(spec.name, f.name)}"></span>[`{f.name}`]'
                f"(../reference/recipe.md#{anchor('recipe', f.name)})"
                for f in fields
                if f.name in inherited
            ]
            yield from (f"As in every [recipe](../reference/recipe.md): {', '.join(links)}.", "")
    if isinstance(spec, MeasureSpec):
        rows = [[f"`{r.name}`", DIRECTIONS[r.better], r.unit, r.summary] for r in spec.readings]
        yield from (*table(["reading", "better", "unit", "what it says"], rows), "")
    if spec.paper:
        yield from _paper(spec.paper)


def _table(brought: BroughtTable) -> Iterator[str]:
    """A table of a paper: how to print it, its columns, and what its first rows are called."""
    spec = brought.spec
    yield from (f"### {spec.name} (table)", "", *wrapped(spec.summary), "")
    yield from (f"`unlearnbench report RUNS --table {spec.name}` prints it from the records of runs.", "")
    rows = [
        [
            escaped(column.heading),
            f"`{column.measure}`",
            f"`{column.key}`",
            ", ".join(
                [f"times {column.scale:g}"] * (column.scale != 1)
                + ["runs without a value are counted"] * column.failures
            ),
        ]
        for column in spec.columns
    ]
    yield from (*table(["column", "measure", "reading", "printed"], rows), "")
    if spec.subjects:
        called = [f"{escaped(heading)} ({subject})" for subject, heading in spec.subjects]
        yield from (*wrapped(f"Rows before the unlearners: {', '.join(called)}."), "")
    if spec.paper:
        yield from _paper(spec.paper)


def _facts(component: Component) -> Iterator[list[str]]:
    spec = component.spec
    yield ["version", f"{spec.version} (changes whenever results change)"]
    if isinstance(spec, DatasetSpec | ModelSpec | UnlearnerSpec | MeasureSpec):
        yield ["tasks", ", ".join(spec.tasks)]
    if isinstance(spec, DatasetSpec | ModelSpec | UnlearnerSpec):
        yield ["inputs", ", ".join(spec.inputs)]
    if isinstance(spec, UnlearnerSpec | MeasureSpec):
        yield ["requests", ", ".join(spec.requests)]
        yield ["reads", ", ".join(spec.reads) or "nothing besides"]
    if isinstance(spec, MeasureSpec):
        yield ["takes", EFFORTS[spec.effort]]
        if spec.shorthand:
            yield ["short form", f"`--measure {spec.name}:A,B` sets `{spec.shorthand}` to A and B"]
    if isinstance(spec, UnlearnerSpec) and spec.invariant_to:
        yield ["does not depend on", ", ".join(spec.invariant_to)]
    if isinstance(spec, UnlearnerSpec) and spec.stage_only:
        yield ["use", "as a stage of a chain, before another unlearner"]
    if isinstance(spec, DatasetSpec):
        yield ["download", f"`unlearnbench data fetch {spec.name}`" if spec.fetchable else "nothing to download"]
        if spec.licence:
            yield ["licence", spec.licence]


def _paper(paper: Paper) -> Iterator[str]:
    place = f"{paper.venue} {paper.year}".strip()
    links = [f"[doi](https://doi.org/{paper.doi})"] if paper.doi else []
    links += [f"[arXiv {paper.arxiv}](https://arxiv.org/abs/{paper.arxiv})"] if paper.arxiv else []
    yield from wrapped(f"Paper: {', '.join(paper.authors)}. *{paper.title}*. {place}. {', '.join(links)}")
    yield ""
    if paper.deviations:
        yield from ("Where it differs from the paper:", "")
        for sentence in paper.deviations:
            yield from wrapped(sentence, "  ", "- ")
        yield ""


def plugin_page(distribution: Distribution) -> str:
    """The page of a distribution: how to install it, and all components that it brings."""
    name, project = distribution.name, distribution.settings["project"]
    lines = [f"# {name}", "", MADE, "", *wrapped(project["description"]), ""]
    installed = [HOST, name] if distribution.is_plugin else [name]
    lines += ["```console", f"$ pip install {' '.join(installed)}", "```", ""]
    extras = [f"`{name}[{extra}]` adds {', '.join(e)}" for extra, e in project.get("optional-dependencies", {}).items()]
    rows = [
        ["version", project["version"]],
        ["licence", project["license"]],
        ["needs", ", ".join(f"`{requirement}`" for requirement in project["dependencies"])],
        *([["options", "; ".join(extras)]] if extras else []),
    ]
    if distribution.is_plugin:
        rows.append(["entry point", ", ".join(f"`{p}`" for p in project["entry-points"][HOST])])
    elif name == HOST:
        rows.append(["entry point", "built in"])
    else:
        rows.append(["commands", ", ".join(f"`{command}`" for command in distribution.commands)])
    lines += [*table(["", ""], rows), ""]
    for kind, heading in KINDS.items():
        components = [c for c in registry().components(kind) if c.plugin.distribution == name]
        if components:
            lines += [f"## {heading}", ""]
            for component in components:
                lines += _component(component)
    tables = [table for table in registry().tables() if table.plugin.distribution == name]
    if tables:
        lines += ["## Tables", ""]
        for brought in tables:
            lines += _table(brought)
    return "\n".join(lines)


def plugins_page(found: Iterable[Distribution]) -> str:
    """The index of all distributions."""
    lines = ["# Plugins", "", MADE, ""]
    lines += wrapped(
        "What this repository publishes: the host, which brings a few components itself, a plugin for each paper or "
        "library, and a verifier of certificates that stands alone. `unlearnbench plugins` lists what is installed, "
        "plugins of others included."
    )
    lines += ["", *(f"- [{d.name}]({d.name}.md): {d.settings['project']['description']}" for d in found), ""]
    return "\n".join(lines)
