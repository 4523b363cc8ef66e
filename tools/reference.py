"""Writes docs/reference and docs/plugins from specs, schemas, docstrings, ``--help`` and the metadata of plugins.

``--check`` changes nothing and fails when a page is stale. Everything that can be looked up has a place to link to: a
heading, or the anchor ``OWNER.PART`` in a table (``salun.density``, ``unlearnbench-run.--seed``, ``reading.value``).
"""

from __future__ import annotations

import argparse
import ast
import html
import importlib
import inspect
import json
import os
import re
import sys
import textwrap
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import ModuleType, NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
FOLDERS = ("reference", "plugins")
WIDTH = 100

# Before the host is imported: what else is installed here is no part of the reference.
os.environ["UNLEARNBENCH_PLUGINS"] = ",".join(
    f"unlearnbench-{path.parent.name}" for path in sorted(ROOT.glob("plugins/*/pyproject.toml"))
)

import click  # noqa: E402
import error_codes  # noqa: E402

from unlearnbench.api import Recipe, UnlearnBenchError  # noqa: E402
from unlearnbench.api.params import Param, param_fields  # noqa: E402
from unlearnbench.api.specs import DatasetSpec, MeasureSpec, ModelSpec, Paper, UnlearnerSpec  # noqa: E402
from unlearnbench.cli import app  # noqa: E402
from unlearnbench.config import scenario, scenario_names  # noqa: E402
from unlearnbench.registry import Component, registry  # noqa: E402
from unlearnbench.schemas import schema, schema_names  # noqa: E402

KINDS = {"dataset": "Data sets", "model": "Models", "unlearner": "Unlearners", "measure": "Measures"}
HOST = "unlearnbench"
MADE = "<!-- Written by tools/reference.py; change the source, not this page. -->"


# -- Markdown ----------------------------------------------------------------------------------------------------------


def table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table."""
    lines = [heading, ["---"] * len(heading), *rows]
    return [f"| {' | '.join(' '.join(cell.replace('|', chr(92) + '|').split()) for cell in line)} |" for line in lines]


def wrapped(text: str, indent: str = "", first: str | None = None) -> list[str]:
    """A paragraph in short lines."""
    return textwrap.wrap(
        " ".join(text.split()),
        WIDTH,
        initial_indent=indent if first is None else first,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def anchored(owner: str, part: str, shown: str | None = None) -> str:
    """Code that can be linked to, and that links to itself."""
    place = anchor(owner, part)
    code = f"`{part if shown is None else shown}`"
    if "|" in code:  # would end the cell; how it is escaped within backticks is not agreed upon
        code = f"<code>{html.escape(code.strip('`')).replace('|', '&#124;')}</code>"
    return f'<a id="{place}" href="#{place}">{code}</a>'


def anchor(owner: str, part: str) -> str:
    """The place of a part in the table of what it belongs to."""
    return f"{slug(owner)}.{part}"


def slug(heading: str) -> str:
    """The place of a heading on its page."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def prose(text: str) -> str:
    """A docstring's mark-up as Markdown's."""
    return text.replace("``", "`")


# -- components --------------------------------------------------------------------------------------------------------


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
    if spec.paper:
        yield from _paper(spec.paper)


def _facts(component: Component) -> Iterator[list[str]]:
    spec = component.spec
    yield ["version", f"{spec.version} (changes whenever results change)"]
    if isinstance(spec, DatasetSpec | ModelSpec | UnlearnerSpec | MeasureSpec):
        yield ["tasks", ", ".join(spec.tasks)]
    if isinstance(spec, UnlearnerSpec | MeasureSpec):
        yield ["requests", ", ".join(spec.requests)]
        yield ["reads", ", ".join(spec.reads) or "nothing besides"]
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


# -- plugins -----------------------------------------------------------------------------------------------------------


def projects() -> dict[str, dict[str, Any]]:
    """The metadata of the host and of every first-party plugin, by the name of the distribution."""
    files = [ROOT / "pyproject.toml", *sorted(ROOT.glob("plugins/*/pyproject.toml"))]
    found = [tomllib.loads(path.read_text("utf-8"))["project"] for path in files]
    return {project["name"]: project for project in found}


def plugin_page(project: Mapping[str, Any]) -> str:
    """The page of a distribution: how to install it, and all components that it brings."""
    name = project["name"]
    lines = [f"# {name}", "", MADE, "", *wrapped(project["description"]), ""]
    lines += ["```console", f"$ pip install {' '.join(dict.fromkeys([HOST, name]))}", "```", ""]
    extras = [f"`{name}[{extra}]` adds {', '.join(e)}" for extra, e in project.get("optional-dependencies", {}).items()]
    rows = [
        ["version", project["version"]],
        ["licence", project["license"]],
        ["needs", ", ".join(f"`{requirement}`" for requirement in project["dependencies"])],
        *([["options", "; ".join(extras)]] if extras else []),
        ["entry point", ", ".join(f"`{p}`" for p in project.get("entry-points", {}).get(HOST, {})) or "built in"],
    ]
    lines += [*table(["", ""], rows), ""]
    for kind, heading in KINDS.items():
        components = [c for c in registry().components(kind) if c.plugin.distribution == name]
        if components:
            lines += [f"## {heading}", ""]
            for component in components:
                lines += _component(component)
    return "\n".join(lines)


def plugins_page(found: Mapping[str, Mapping[str, Any]]) -> str:
    """The index of all distributions."""
    lines = ["# Plugins", "", MADE, ""]
    lines += wrapped(
        "What this repository publishes: the host, which brings a few components itself, and a plugin for each paper "
        "or library. `unlearnbench plugins` lists what is installed, those of others included."
    )
    lines += ["", *(f"- [{name}]({name}.md): {project['description']}" for name, project in found.items()), ""]
    return "\n".join(lines)


# -- recipe and scenarios ----------------------------------------------------------------------------------------------


def recipe_page() -> str:
    """The page of recipes."""
    return "\n".join(
        [
            "# Recipe",
            "",
            MADE,
            "",
            *wrapped(
                "How the original and the gold model are trained: `--set recipe.lr=0.01`, or `recipe` in an "
                "experiment file. Scenarios bring their own. Unlearners that optimise have the same parameters with "
                "defaults of their own."
            ),
            "",
            *parameters("recipe", Recipe),
            "",
        ]
    )


def scenarios_page() -> str:
    """The page of the built-in scenarios."""
    lines = ["# Scenarios", "", MADE, ""]
    for name in scenario_names():
        scene = scenario(name)
        lines += [f"## {name}", "", *wrapped(scene["summary"]), ""]
        rows = [[part, f"`{scene[part]['name']}` {_settings(scene[part].get('params', {}))}"] for part in
                ("dataset", "model")]  # fmt: skip
        rows.append(["recipe", _settings(scene["recipe"])])
        rows += [["request", _settings(request)] for request in scene["requests"]]
        rows.append(["measures", ", ".join(f"`{measure}`" for measure in scene["measures"])])
        lines += [*table(["", ""], rows), ""]
        own = scene.get("unlearners", {})
        if own:
            lines += ["Unlearners whose defaults do not suit it:", ""]
            rows = [[f"`{n}`", _settings(o["params"]), o["differs"]] for n, o in own.items()]
            lines += [*table(["unlearner", "parameters", "why"], rows), ""]
    return "\n".join(lines)


def _settings(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{k}={json.dumps(v)}" for k, v in values.items())


# -- commands ----------------------------------------------------------------------------------------------------------


def commands_page() -> str:
    """The page of every command's help and of the exit codes."""
    lines = ["# Commands", "", MADE, ""]
    for context in _contexts(click.Context(app, info_name="unlearnbench", **app.context_settings)):
        lines += _command(context)
    rows = [["0", "", "Done."]]
    errors = sorted(UnlearnBenchError.__subclasses__(), key=lambda cls: cls.exit_code)
    rows += [[str(error.exit_code), f"`{error.__name__}`", inspect.getdoc(error) or ""] for error in errors]
    lines += ["## Exit codes", "", *wrapped(
        "When several runs of an invocation go wrong in different ways, the highest code counts. The errors are those "
        "of `unlearnbench.api`, which a plugin raises as well. A reader that goes away (`| head`) ends a command with "
        "141."
    ), "", *table(["code", "error", "meaning"], rows), ""]  # fmt: skip
    return "\n".join(lines)


def _command(context: click.Context) -> Iterator[str]:
    """A command: how to call it, what it does, and each of its options, arguments and subcommands."""
    command, path = context.command, context.command_path
    yield from (f"## {path}", "", "```text", " ".join(context.get_usage().split()), "```", "")
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        yield from (*wrapped(escaped(paragraph)), "")
    rows = []
    for parameter in command.get_params(context):
        if isinstance(parameter, click.Option):
            shown, meaning = parameter.get_help_record(context) or ("", "")
            rows.append([anchored(path, max(parameter.opts, key=len), shown), escaped(meaning)])
        else:
            shown = parameter.make_metavar(context)
            rows.append([anchored(path, parameter.human_readable_name, shown), "argument"])
    yield from (*table(["option or argument", "meaning"], rows), "")
    if isinstance(command, click.Group):
        children = {name: command.get_command(context, name) for name in command.list_commands(context)}
        links = [[f"[`{n}`](#{slug(f'{path} {n}')})", c.get_short_help_str(120)] for n, c in children.items() if c]
        yield from (*table(["command", "what it does"], links), "")


def escaped(text: str) -> str:
    """Plain text with what Markdown would take for mark-up kept as it is; code in backticks stays code."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(p if p.startswith("`") else re.sub(r"([*_\[\]])", r"\\\1", p).replace("<", "&lt;") for p in parts)


def _contexts(context: click.Context) -> Iterator[click.Context]:
    """A command's context and those of all commands below it."""
    yield context
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            child = context.command.get_command(context, name)
            assert child is not None
            yield from _contexts(click.Context(child, parent=context, info_name=name, **child.context_settings))


# -- schemas -----------------------------------------------------------------------------------------------------------


def schema_page(name: str) -> str:
    """The page of one schema: its properties and those of its parts."""
    document = schema(name)
    lines = [f"# {document['title']}: `{name}.json`", "", MADE, "", *wrapped(document["description"]), ""]
    lines += [f"`{document['$id']}`; the schema itself: `unlearnbench schema {name}`.", ""]
    lines += [*_properties(name, name, document), ""]
    for part, definition in document.get("$defs", {}).items():
        lines += [f"## {part}", "", *wrapped(definition.get("description", definition.get("title", ""))), ""]
        lines += [*_properties(name, part, definition), ""]
    return "\n".join(lines)


def _properties(name: str, owner: str, document: Mapping[str, Any]) -> list[str]:
    """A table of the properties of a schema or of a part of it; the type of anything else."""
    if "properties" not in document:
        return [f"Value: {_schema_type(document)}."]
    required = set(document.get("required", ()))
    rows = []
    for part, content in document["properties"].items():
        described = _resolved(name, content)
        shown = json.dumps(described["examples"][0]) if described.get("examples") else ""
        rows.append(
            [
                anchored(owner, part),
                _schema_type(content),
                "yes" if part in required else "",
                described.get("description", ""),
                f"`{shown}`" if shown and len(shown) <= 60 else "",
            ]
        )
    return table(["property", "type", "required", "meaning", "example"], rows)


def _resolved(name: str, content: Mapping[str, Any]) -> Mapping[str, Any]:
    """A property with what it refers to, in its own schema or in another."""
    if "$ref" not in content:
        return content
    address, _, pointer = content["$ref"].partition("#")
    found: Any = schema(_named(address) or name)
    for part in filter(None, pointer.split("/")):
        found = found[part]
    return {**found, **content}


def _named(address: str) -> str:
    """The name of the schema with this ``$id``; empty for the schema itself."""
    return address.rstrip("/").split("/")[-2] if address else ""


def _schema_type(content: Mapping[str, Any]) -> str:
    if "$ref" in content:
        address, _, pointer = content["$ref"].partition("#")
        other, part = _named(address), pointer.rpartition("/")[2]
        page = f"schema-{other}.md" if other else ""
        return f"[{part or other}]({page}{'#' + part.lower() if part else ''})"
    for choice in ("oneOf", "anyOf"):
        if choice in content:
            return " or ".join(dict.fromkeys(_schema_type(c) for c in content[choice]))
    if "const" in content:
        return f"`{json.dumps(content['const'])}`"
    if "enum" in content:
        return " or ".join(f"`{json.dumps(value)}`" for value in content["enum"])
    kinds = content.get("type", "any")
    return " or ".join(_plain_type(kind, content) for kind in ([kinds] if isinstance(kinds, str) else kinds))


def _plain_type(kind: str, content: Mapping[str, Any]) -> str:
    if kind == "array":
        items = content.get("items")
        return f"list of {_schema_type(items)}" if isinstance(items, Mapping) and items else "list"
    if kind == "object" and content.get("if") == {"type": "object"}:
        return _schema_type(content["then"])
    if kind not in ("integer", "number"):
        return kind
    signs = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    # Whole numbers end where JSON cannot carry them; saying so at each would only be noise.
    limits = [f"{signs[key]} {content[key]:g}" for key in signs if abs(content.get(key, 2**53)) < 2**53 - 1]
    return f"{kind} {', '.join(limits)}".strip()


# -- the plugin api ----------------------------------------------------------------------------------------------------


def api_page() -> str:
    """The page of everything that a plugin may import."""
    lines = ["# Plugin API", "", MADE, ""]
    lines += wrapped(
        "All that a plugin may import. `unlearnbench.api` is light (the standard library and pluggy) and belongs into "
        "the module that the entry point names; `unlearnbench.api.runtime` imports torch and belongs into the module "
        "that does the work."
    )
    lines += [""]
    hooks = importlib.import_module("unlearnbench.hookspecs")
    lines += ["## Hooks", "", "Functions of the entry point's module, marked with `@hookimpl`, that return lists of "
              "specs.", ""]  # fmt: skip
    for name in hooks.HOOKS:
        lines += [f"### {name}", "", *wrapped(prose(inspect.getdoc(getattr(hooks, name)) or "")), ""]
    for module_name in ("unlearnbench.api", "unlearnbench.api.runtime"):
        module = importlib.import_module(module_name)
        lines += [f"## {module_name}", "", *wrapped(prose(inspect.getdoc(module) or "")), ""]
        for name in module.__all__:
            lines += _api_entry(module, name)
    return "\n".join(lines)


def _api_entry(module: ModuleType, name: str) -> Iterator[str]:
    value = inspect.unwrap(getattr(module, name))  # past caches and decorators, to the source
    if not inspect.isclass(value) and not inspect.isfunction(value):
        yield from (f"### {name}", "")
        yield from (*wrapped(_constant(module, name, value)), "")
        return
    source = ast.parse(textwrap.dedent(inspect.getsource(value))).body[0]
    yield from (f"### {name}", "")
    if isinstance(source, ast.FunctionDef):
        yield from ("```python", *_signature(source), "```", "")
    yield from _docstring(inspect.getdoc(value) or "")
    if isinstance(source, ast.ClassDef):
        fields = [node for node in source.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)]
        shown = [_source(node) for node in fields if not ast.unparse(node.target).startswith("_")]
        methods = [node for node in source.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]
        members = [*_plain(shown), *(line for node in methods for line in _signature(node))]
        if members and value is not Recipe:
            yield from ("```python", *members, "```", "")


def _plain(fields: Iterable[str]) -> Iterator[str]:
    """Fields without the bookkeeping of dataclasses."""
    for field in fields:
        yield re.sub(r" = field\((.*)\)$", "", field)


def _signature(node: ast.FunctionDef) -> Iterator[str]:
    decorators = {ast.unparse(d) for d in node.decorator_list}
    if "property" in decorators or "cached_property" in decorators:
        yield f"{node.name}: {ast.unparse(node.returns) if node.returns else ''}  # property"
        return
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    arguments = list(_arguments(node.args))
    line = f"{node.name}({', '.join(arguments)}){returns}"
    if len(line) <= WIDTH:
        yield line
        return
    yield from (f"{node.name}(", *(f"    {argument}," for argument in arguments), f"){returns}")


def _arguments(node: ast.arguments) -> Iterator[str]:
    plain = [*node.posonlyargs, *node.args]
    defaults: list[ast.expr | None] = [None] * (len(plain) - len(node.defaults)) + list(node.defaults)
    for argument, default in zip(plain, defaults, strict=True):
        if argument.arg not in ("self", "cls"):
            yield _argument(argument, default)
    if node.vararg:
        yield f"*{_argument(node.vararg, None)}"
    elif node.kwonlyargs:
        yield "*"
    for argument, default in zip(node.kwonlyargs, node.kw_defaults, strict=True):
        yield _argument(argument, default)


def _argument(argument: ast.arg, default: ast.expr | None) -> str:
    return _source(argument) + (f" = {_source(default)}" if default else "")


def _source(node: ast.AST) -> str:
    """Code with the quotes that formatters want."""
    text = ast.unparse(node)
    return text if '"' in text else text.replace("'", '"')


def _docstring(text: str) -> Iterator[str]:
    """A docstring as Markdown: paragraphs are wrapped, literal blocks fenced."""
    literal = False
    for paragraph in text.split("\n\n"):
        if literal and paragraph.startswith(" "):
            yield from ("```python", *textwrap.dedent(paragraph).splitlines(), "```", "")
            continue
        literal = paragraph.rstrip().endswith("::")
        if paragraph.startswith("Raises:"):
            yield from ("Raises:", "")
            for line in re.split(r"\n    (?=\w+: )", paragraph)[1:]:
                yield from wrapped(prose(line), "  ", "- ")
            yield ""
            continue
        yield from (*wrapped(prose(paragraph.replace("::", ":"))), "")


def _constant(module: ModuleType, name: str, value: object) -> str:
    """The docstring below a constant, found in the module that defines it, else the constant itself."""
    for candidate in (module, *(m for n, m in sorted(sys.modules.items()) if n.startswith("unlearnbench.api."))):
        body = ast.parse(inspect.getsource(candidate)).body
        for node, following in pairwise(body):
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            if any(isinstance(t, ast.Name) and t.id == name for t in targets):
                text = following.value if isinstance(following, ast.Expr) else None
                if isinstance(text, ast.Constant) and isinstance(text.value, str):
                    return prose(text.value)
                assert isinstance(node, ast.Assign | ast.AnnAssign)
                assert node.value is not None
                return f"`{_source(node.value)}`"
    return f"`{value}`"


# -- errors ------------------------------------------------------------------------------------------------------------


def errors_page() -> str:
    """The page of every error code."""
    lines = ["# Error codes", "", MADE, ""]
    lines += wrapped(
        "An error is one line: `error: [code] place: what is wrong; what to do`. With `--json` the same parts come as "
        "JSON. The code stays the same when the words change, so scripts can rely on it. The number is the exit code "
        "of a command that ends with the error ([all of them](commands.md#exit-codes))."
    )
    found, _ = error_codes.raised()
    classes = {error.__name__: error for error in UnlearnBenchError.__subclasses__()}
    for code in sorted({one.code for one in found}):
        errors = dict.fromkeys(error_codes.public(one.error) for one in found if one.code == code)
        shown = ", ".join(
            f"[`{error}`](api.md#{slug(error)}), exit code {classes[error].exit_code}" for error in errors
        )
        lines += ["", f"## {code}", "", f"{shown}.", "", *wrapped(escaped(error_codes.ADVICE[code]))]
    return "\n".join(lines)


# -- all pages ---------------------------------------------------------------------------------------------------------


def pages() -> dict[str, str]:
    """Every generated page by its path below docs."""
    found = {
        "commands.md": commands_page(),
        "recipe.md": recipe_page(),
        "scenarios.md": scenarios_page(),
        "api.md": api_page(),
        **{f"{kind}s.md": component_page(kind) for kind in KINDS},
        **{f"schema-{name}.md": schema_page(name) for name in schema_names()},
    }
    lines = ["# Reference", "", MADE, "", "Made by `tools/reference.py` from the code; the tests compare.", ""]
    lines += [f"- [{text.partition(chr(10))[0].removeprefix('# ')}]({name})" for name, text in found.items()]
    lines += ["", "Besides: [error codes](errors.md) and [plugins](../plugins/README.md)."]
    distributions = projects()
    plugins = {f"{name}.md": plugin_page(project) for name, project in distributions.items()}
    return {
        "reference/README.md": "\n".join([*lines, ""]),
        **{f"reference/{name}": text for name, text in found.items()},
        "reference/errors.md": errors_page(),
        "plugins/README.md": plugins_page(distributions),
        **{f"plugins/{name}": text for name, text in plugins.items()},
    }


def main() -> int:
    """Write the pages, or compare them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 when a page is stale")
    check = parser.parse_args().check
    problems = [*registry().problems(), *error_codes.problems()]
    if problems:
        print("\n".join(problems), file=sys.stderr)
        return 1
    wanted = {name: f"{text.rstrip()}\n" for name, text in pages().items()}
    there = {
        f"{folder}/{path.name}": path.read_text("utf-8") for folder in FOLDERS for path in (DOCS / folder).glob("*.md")
    }
    stale = sorted(name for name in {*wanted, *there} if wanted.get(name) != there.get(name))
    if check:
        for name in stale:
            print(f"stale: docs/{name}")
        if stale:
            print("run python tools/reference.py")
        return int(bool(stale))
    for name in stale:
        page = DOCS / name
        page.parent.mkdir(parents=True, exist_ok=True)
        if name in wanted:
            page.write_text(wanted[name], "utf-8")
        else:
            page.unlink()
    print(f"{len(stale)} of {len(wanted)} pages written")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
