"""Writes docs/reference and docs/plugins from specs, schemas, docstrings, ``--help`` and the metadata of plugins.

``--check`` changes nothing and fails when a page is stale. Everything that can be looked up has a place to link to: a
heading, or the anchor ``OWNER.PART`` in a table (``salun.density``, ``unlearnbench-run.--seed``, ``reading.value``).
"""

from __future__ import annotations

import argparse
import os
import sys

import error_codes
from api_pages import api_page
from command_pages import commands_page, errors_page
from component_pages import KINDS, component_page, plugin_page, plugins_page
from distributions import ROOT, distributions
from markup import MADE
from scenario_pages import recipe_page, scenarios_page
from schema_pages import schema_page

from unlearnbench.plugins import ALLOW_VARIABLE
from unlearnbench.registry import registry
from unlearnbench.schemas import schema_names

DOCS = ROOT / "docs"
FOLDERS = ("reference", "plugins")


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
    plugins = {f"{d.name}.md": plugin_page(d) for d in distributions()}
    return {
        "reference/README.md": "\n".join([*lines, ""]),
        **{f"reference/{name}": text for name, text in found.items()},
        "reference/errors.md": errors_page(),
        "plugins/README.md": plugins_page(distributions()),
        **{f"plugins/{name}": text for name, text in plugins.items()},
    }


def main() -> int:
    """Write the pages, or compare them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 when a page is stale")
    check = parser.parse_args().check
    # What else is installed here is no part of the reference.
    os.environ[ALLOW_VARIABLE] = ",".join(d.name for d in distributions() if d.is_plugin)
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
