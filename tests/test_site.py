"""The documentation site: builds without a warning or a network, and has a place for everything that is looked up."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote, urlsplit

import click
import pytest

from unlearnbench.api import Recipe, UnlearnBenchError
from unlearnbench.api.params import param_fields
from unlearnbench.cli import app
from unlearnbench.config import scenario_names
from unlearnbench.hookspecs import HOOKS
from unlearnbench.registry import Registry, registry
from unlearnbench.schemas import schema, schema_names

ROOT = Path(__file__).parent.parent
FIRST_PARTY = sorted(path.parent.name for path in ROOT.glob("plugins/*/pyproject.toml"))


def load_tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


error_codes = load_tool("error_codes")


@dataclass
class Page(HTMLParser):
    """What a built page can be linked by, what it links to, and what a browser loads for it."""

    text: str
    ids: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    classes: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.ids += [values["id"]] if "id" in values else []
        self.classes |= set(values.get("class", "").split())
        if tag == "a":
            self.links += [values["href"]] if "href" in values else []
        elif tag == "link":
            # Pages that are merely named (the next one, the canonical one) are not loaded.
            self.loaded += [] if values.get("rel") in ("prev", "next", "canonical") else [values["href"]]
        else:
            self.loaded += [values[name] for name in ("src", "srcset", "data", "poster") if name in values]
        self.loaded += loaded_by_css(values.get("style", ""))


def loaded_by_css(text: str) -> list[str]:
    """What a style sheet makes a browser load."""
    without_comments = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    return re.findall(r"""(?:url\(|@import\s+)\s*["']?([^"')\s]+)""", without_comments)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make site` builds it, with warnings as errors."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Page]:
    """Every page by its path; 404.html is served at any address, so its links are absolute."""
    found = {path.relative_to(site).as_posix(): Page(path.read_text("utf-8")) for path in site.rglob("*.html")}
    del found["404.html"]
    return found


@pytest.fixture(scope="module")
def shipped() -> Iterator[Registry]:
    """The components of this repository, whatever else is installed beside them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNLEARNBENCH_PLUGINS", ",".join(f"unlearnbench-{name}" for name in FIRST_PARTY))
        registry.cache_clear()
        yield registry()
    registry.cache_clear()


def ids(pages: Mapping[str, Page], name: str) -> set[str]:
    return set(pages[f"{name}/index.html"].ids)


def slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


# -- the site as a whole -----------------------------------------------------------------------------------------------


def test_every_document_is_a_page_of_the_site(pages: dict[str, Page]) -> None:
    documents = {path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")}
    wanted = {
        (path.parent if path.name == "README.md" else path.with_suffix("")).joinpath("index.html").as_posix()
        for path in documents
        if "unlearnbench-gentle" not in path.parts
    }
    assert wanted == set(pages)


def test_every_page_can_be_reached_from_the_start(pages: dict[str, Page]) -> None:
    links = {urlsplit(link).path.rstrip("/") for link in pages["index.html"].links}
    assert [name for name in pages if name.removesuffix("/index.html") not in links | {"index.html"}] == []


def test_a_page_loads_nothing_from_elsewhere(site: Path, pages: dict[str, Page]) -> None:
    loaded = 0
    for name, page in {**pages, "404.html": Page((site / "404.html").read_text("utf-8"))}.items():
        for source in page.loaded:
            parts = urlsplit(source)
            if parts.scheme == "data":
                continue
            assert not parts.scheme, f"{name}: {source}"
            assert not parts.netloc, f"{name}: {source}"
            base = site if parts.path.startswith("/") else (site / name).parent
            assert (base / parts.path.lstrip("/")).is_file(), f"{name}: {source}"
            loaded += 1
        # The theme's script fetches a library from elsewhere to draw these.
        assert not page.classes & {"mermaid", "arithmatex"}, name
    assert loaded > 2 * len(pages)


def test_a_style_sheet_loads_nothing_from_elsewhere(site: Path) -> None:
    sheets = list(site.rglob("*.css"))
    assert sheets
    found = [(sheet.name, source) for sheet in sheets for source in loaded_by_css(sheet.read_text("utf-8"))]
    assert [(name, source) for name, source in found if urlsplit(source).scheme not in ("", "data")] == []
    assert [(name, source) for name, source in found if urlsplit(source).netloc] == []


@pytest.mark.parametrize(
    "text",
    [
        '<script src="https://cdn.example/a.js"></script>',
        '<link rel="stylesheet" href="//fonts.example/css">',
        '<img src="http://example.org/a.png">',
        '<p style="background: url(https://example.org/a.png)">',
    ],
)
def test_what_is_loaded_from_elsewhere_would_be_seen(text: str) -> None:
    assert urlsplit(Page(text).loaded[0]).netloc


def test_every_link_within_the_site_leads_to_a_place_on_a_page(site: Path, pages: dict[str, Page]) -> None:
    checked = 0
    for name, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = ((site / name).parent / unquote(parts.path)).resolve() if parts.path else site / name
            target = target / "index.html" if target.is_dir() else target
            assert target.is_file(), f"{name}: {link}"
            place = unquote(parts.fragment)
            if place:
                assert place in pages[target.relative_to(site).as_posix()].ids, f"{name}: {link}"
                checked += 1
    assert checked > 500


def test_no_place_of_a_page_has_the_name_of_another(pages: dict[str, Page]) -> None:
    for name, page in pages.items():
        own = [place for place in page.ids if not place.startswith("__")]
        assert sorted({place for place in own if own.count(place) > 1}) == [], name


def test_the_search_finds_what_the_pages_say(site: Path) -> None:
    index = (site / "search" / "search_index.json").read_text("utf-8")
    for words in ("unlearnbench-salun", "budget-exceeded", "unlearnbench_measures", "retain_weight"):
        assert words in index


# -- a place for everything --------------------------------------------------------------------------------------------


def contexts(context: click.Context) -> Iterator[click.Context]:
    yield context
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            child = context.command.get_command(context, name)
            assert child is not None
            yield from contexts(click.Context(child, parent=context, info_name=name, **child.context_settings))


def test_choices_are_shown_without_the_escapes_of_a_table(pages: dict[str, Page]) -> None:
    text = pages["reference/commands/index.html"].text.replace("&#124;", "|")
    assert "<code>--device [cpu|cuda|mps|auto]</code>" in text


def test_every_command_option_and_argument_has_a_place(pages: dict[str, Page]) -> None:
    there = ids(pages, "reference/commands")
    wanted = set()
    for context in contexts(click.Context(app, info_name="unlearnbench", **app.context_settings)):
        command = slug(context.command_path)
        wanted.add(command)
        for parameter in context.command.get_params(context):
            option = isinstance(parameter, click.Option)
            wanted.add(f"{command}.{max(parameter.opts, key=len) if option else parameter.human_readable_name}")
    assert len(wanted) > 60
    assert wanted - there == set()


def properties(document: Any, owner: str) -> Iterator[str]:
    """Every property below a schema or a part of it, as OWNER.PROPERTY."""
    if isinstance(document, list):
        for item in document:
            yield from properties(item, owner)
    elif isinstance(document, dict):
        for key, content in document.items():
            if key == "properties":
                yield from (f"{slug(owner)}.{name}" for name in content)
            if key == "$defs":
                for part, definition in content.items():
                    yield from properties(definition, part)
            elif key not in ("if", "then", "else"):  # conditions on properties that have their place already
                yield from properties(content, owner)


@pytest.mark.parametrize("name", schema_names())
def test_every_property_and_part_of_a_schema_has_a_place(name: str, pages: dict[str, Page]) -> None:
    document = schema(name)
    wanted = set(properties(document, name)) | {slug(part) for part in document.get("$defs", {})}
    assert wanted
    assert wanted - ids(pages, f"reference/schema-{name}") == set()


def test_every_component_and_parameter_has_a_place_on_the_page_of_its_plugin(
    pages: dict[str, Page], shipped: Registry
) -> None:
    seen = 0
    for kind in HOOKS.values():
        for component in shipped.components(kind):
            spec, there = component.spec, ids(pages, f"plugins/{component.plugin.distribution}")
            wanted = {slug(spec.name), *(f"{slug(spec.name)}.{f.name}" for f in param_fields(spec.params))}
            assert wanted - there == set(), spec.name
            seen += len(wanted)
    assert seen > 100


def test_a_page_of_a_plugin_shows_what_its_metadata_say(pages: dict[str, Page], shipped: Registry) -> None:
    for name in FIRST_PARTY:
        text = re.sub(r"<[^>]+>", "", pages[f"plugins/unlearnbench-{name}/index.html"].text)
        words = " ".join(text.replace("&#x27;", "'").replace("&gt;", ">").split())
        assert f"pip install unlearnbench unlearnbench-{name}" in words
        papers = [c.spec.paper for k in HOOKS.values() for c in shipped.components(k)
                  if c.plugin.distribution == f"unlearnbench-{name}" and c.spec.paper]  # fmt: skip
        for paper in papers:
            assert paper.title in words
            for sentence in paper.deviations:
                # A few words are enough; quotation marks and dashes may be set differently.
                assert " ".join(sentence.split()[:4]) in words, sentence


def test_every_parameter_of_a_recipe_has_a_place(pages: dict[str, Page]) -> None:
    assert {f"recipe.{f.name}" for f in param_fields(Recipe)} - ids(pages, "reference/recipe") == set()


def test_every_scenario_has_a_place(pages: dict[str, Page]) -> None:
    assert {slug(name) for name in scenario_names()} - ids(pages, "reference/scenarios") == set()


def test_every_hook_and_every_name_of_the_plugin_api_has_a_place(pages: dict[str, Page]) -> None:
    modules = [importlib.import_module(name) for name in ("unlearnbench.api", "unlearnbench.api.runtime")]
    wanted = {slug(name) for name in [*HOOKS, *(name for module in modules for name in module.__all__)]}
    assert wanted - ids(pages, "reference/api") == set()


# -- error codes -------------------------------------------------------------------------------------------------------


def test_every_error_code_has_advice_and_no_advice_is_stale() -> None:
    assert error_codes.problems() == []


def test_every_error_code_has_a_place_with_its_class_and_exit_code(pages: dict[str, Page]) -> None:
    page = pages["reference/errors/index.html"]
    classes = {cls.__name__: cls for cls in UnlearnBenchError.__subclasses__()}
    found, _ = error_codes.raised()
    assert len(found) > 80
    for one in found:
        assert one.code in page.ids
        section = page.text.partition(f'id="{one.code}"')[2].partition("<h2")[0]
        error = error_codes.public(one.error)
        assert error in section, one.code
        assert f"exit code {classes[error].exit_code}" in section, one.code


def test_the_classes_of_errors_are_those_that_python_knows() -> None:
    """The finder reads the source; a class that it took for no error would hide the codes of that class."""

    def below(cls: type[UnlearnBenchError]) -> Iterator[type[UnlearnBenchError]]:
        for child in cls.__subclasses__():
            yield child
            yield from below(child)

    for name in ("guard", "store", "api.runtime"):
        importlib.import_module(f"unlearnbench.{name}")
    known = {cls.__name__: cls for cls in below(UnlearnBenchError) if cls.__module__.startswith("unlearnbench")}
    assert {"BudgetExceeded", "Damaged"} <= set(known)
    for name, cls in known.items():
        nearest = next(base for base in cls.__mro__ if UnlearnBenchError in base.__bases__)
        assert error_codes.public(name) == nearest.__name__


CODE = """
from unlearnbench.api import DataError, PluginError
class Torn(DataError): ...
def load(kind, which):
    raise Torn("torn-file", "is torn")
    raise PluginError("this-one" if kind else "that-one", "is broken")
    raise DataError(which, "nobody knows")
    raise ValueError("not-ours")
    return unknown("wine colour", "blue", [])
def unknown(kind, name, known):
    return UsageError(f"unknown-{kind}", name)
def one_line(code):
    raise DataError(code, "x")
def wrong_file(code):
    return DataError(code, "x")
def fault(code):
    return DataError(code, "x")
"""


def test_the_codes_are_found_in_the_source(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text(CODE, "utf-8")
    found, unclear = error_codes.raised([file, Path(inspect.getfile(UnlearnBenchError))])
    assert {(one.code, one.error) for one in found} == {
        ("torn-file", "Torn"),
        ("this-one", "PluginError"),
        ("that-one", "PluginError"),
        ("unknown-wine-colour", "UsageError"),
    }
    assert unclear == ["module.py:7: which"]
