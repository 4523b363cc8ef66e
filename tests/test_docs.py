"""The documents say what is true: listings are files, commands run and print what is shown, links lead somewhere."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import click
import pytest
import warm
from records import run_document

from unlearnbench.cli import app
from unlearnbench.record import content_digest
from unlearnbench.schemas import schema

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
TUTORIAL = DOCS / "tutorial" / "first-unlearner.md"


def _load_examples() -> Any:
    spec = importlib.util.spec_from_file_location("examples", ROOT / "tools" / "examples.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["examples"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


examples = _load_examples()
GENERATED = ("reference", "plugins")
PAGES = sorted(path for path in DOCS.rglob("*.md") if path.parent.name not in GENERATED)
WITH_DATA = [ROOT / "plugins" / name / "README.md" for name in ("huggingface", "scalegun", "tabular")]
READMES = [
    ROOT / "README.md",
    ROOT / "leaderboard" / "README.md",
    ROOT / "verifier" / "README.md",
    *sorted(ROOT.glob("plugins/*/README.md")),
]
WITH_STEPS = [path for path in [*PAGES, *READMES] if examples.steps(path)]


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.fixture(scope="session")
def tutorial_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which pip installed the tutorial's plugin, so that it is found by its entry point."""
    folder = tmp_path_factory.mktemp("tutorial-site")
    examples.install_tutorial(folder)
    return folder


# -- what is shown is what there is ------------------------------------------------------------------------------------


def test_the_reference_is_what_the_code_says() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "reference.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_listings_of_the_tutorial_are_its_plugin() -> None:
    shown = examples.files(TUTORIAL)
    there = [p for p in examples.TUTORIAL_PLUGIN.rglob("*") if p.suffix in (".py", ".toml")]
    assert set(shown) == {p.relative_to(examples.TUTORIAL_PLUGIN).as_posix() for p in there}
    for path in there:
        listing = shown[path.relative_to(examples.TUTORIAL_PLUGIN).as_posix()]
        assert lines(listing) == lines(path.read_text("utf-8")), path.name


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize("page", WITH_STEPS, ids=named)
def test_commands_print_what_the_page_shows(page: Path, tmp_path: Path, tutorial_site: Path) -> None:
    if page in WITH_DATA and "UNLEARNBENCH_DATA" not in os.environ:
        pytest.skip("its data are found through UNLEARNBENCH_DATA")
    examples.prepare(page, tmp_path)
    site = tutorial_site if page == TUTORIAL else None
    for step in examples.steps(page):
        printed = examples.run(step, tmp_path, site, warm.scripts())
        assert examples.differences(step.shown, printed) == [], step.command


@pytest.mark.parametrize("page", [p for p in PAGES if p != TUTORIAL and examples.files(p)], ids=named)
def test_every_file_that_a_page_shows_is_used_by_its_commands(page: Path) -> None:
    commands = " ".join(step.command for step in examples.steps(page))
    assert [name for name in examples.files(page) if name not in commands] == []


TABLE = """
            forget acc   MIA %   CPU s   speed-up
 ──────────────────────────────────────────────────
 original        0.993    1.37    1.89
 gentle          0.000   99.00    0.11      17.8x

record  runs/x.s0.fd35d112f1/record.json
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [("17.8x", "9.1x"), ("1.89", "11.5"), ("fd35d112f1", "0123456789"), ("0.993", "0.986"), ("─────", "──")],
)
def test_what_varies_from_run_to_run_is_no_difference(before: str, after: str) -> None:
    assert examples.differences(TABLE, TABLE.replace(before, after)) == []


@pytest.mark.parametrize(
    ("before", "after"),
    [("0.993", "0.500"), ("99.00", "1.00"), ("gentle ", "other "), (" MIA %", " UA"), ("\nrecord", "\nmore\nrecord")],
)
def test_what_does_not_vary_is_a_difference(before: str, after: str) -> None:
    assert examples.differences(TABLE, TABLE.replace(before, after))


def test_skipped_lines_may_hold_anything_but_the_others_must_be_there_in_order() -> None:
    assert examples.differences("...\nb\n...\nd", "a\nb\nc\nd\ne") == []
    assert examples.differences("...\nd\n...\nb", "a\nb\nc\nd\ne")


# -- commands that are shown and not run -------------------------------------------------------------------------------


def commands() -> Iterator[tuple[str, list[str]]]:
    """Page and words of every command of ours in a code block."""
    for page in [*PAGES, *READMES, *examples.TUTORIAL_PLUGIN.glob("*.md")]:
        text = page.read_text("utf-8").replace("\\\n", " ")
        for line in re.findall(r"^(?:    |\$ )(?:\w+=\S* )?(?:try/bin/)?unlearnbench ([^|\n]+)", text, re.MULTILINE):
            yield named(page), shlex.split(line, comments=True)


def test_every_command_that_is_shown_exists_with_its_options() -> None:
    found = list(commands())
    assert len(found) > 30
    for page, words in found:
        command, context, rest = app, click.Context(app), list(words)
        while isinstance(command, click.Group):
            child = command.get_command(context, rest.pop(0))
            assert child is not None, f"{page}: {words}"
            command, context = child, click.Context(child, parent=context)
        try:
            command.make_parser(context).parse_args(args=rest)
        except click.UsageError as problem:
            pytest.fail(f"{page}: unlearnbench {shlex.join(words)}: {problem.format_message()}")


_DRY_RUNS = """
import contextlib, io, json, sys
from unlearnbench.cli import _run
for words in json.load(sys.stdin):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        code = _run([*words, "--dry-run"])
    print(json.dumps([code, printed.getvalue()[-300:]]))
"""


def test_every_run_that_is_shown_can_be_planned(tutorial_site: Path) -> None:
    """Needs no data: unknown components, parameters out of range and combinations that are refused show here."""
    runs = [words for _, words in commands() if words[0] == "run"]
    # These need a file or a plugin that the page makes, or are refused on purpose.
    unplanned = (
        "--checkpoint",
        "experiment.yaml",
        "asked.txt",
        "asked.yaml",
        "partition.yaml",
        "preprocessing.yaml",
        "theirs/experiment.yaml",
        "tiny",
        "gentle.height=-1",
        "finetune.epoch=50",
        "class=4",
    )
    wanted = [words for words in runs if not set(words) & set(unplanned)]
    assert len(wanted) > 8
    done = subprocess.run(
        [sys.executable, "-c", _DRY_RUNS],
        input=json.dumps(wanted),
        env={**os.environ, "PYTHONPATH": str(tutorial_site)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(w, text) for w, (code, text) in zip(wanted, answers, strict=True) if code] == []


# -- links -------------------------------------------------------------------------------------------------------------


def slugs(page: Path) -> set[str]:
    """The anchors of a page: its headings, as code hosts make them, and those that stand in its tables."""
    text = page.read_text("utf-8")
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    made = {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
    return made | set(re.findall(r' id="([^"]+)"', text))


def test_every_link_between_documents_leads_somewhere() -> None:
    checked = 0
    for page in [*DOCS.rglob("*.md"), *READMES]:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
            if target.startswith(("http:", "https:")):
                continue
            name, _, anchor = target.partition("#")
            file = (page.parent / name).resolve() if name else page
            assert file.exists(), f"{named(page)}: {target}"
            assert not anchor or anchor in slugs(file), f"{named(page)}: {target}"
            checked += 1
    assert checked > 100


def test_every_page_is_in_the_index() -> None:
    linked = set(re.findall(r"\]\(([^)\s#]+)\)", (DOCS / "README.md").read_text("utf-8")))
    pages = {p.relative_to(DOCS).as_posix() for p in PAGES if p.name != "README.md"}
    assert pages <= linked


# -- claims ------------------------------------------------------------------------------------------------------------


def test_the_note_on_the_digest_names_every_property_on_the_right_side() -> None:
    text = (DOCS / "decisions" / "0002-record-digest.md").read_text("utf-8")
    head, _, tail = text.partition("Left out:")
    columns = [re.findall(r"^\| (`[^|]+) \|", part, re.MULTILINE) for part in (head, tail)]
    covered, left_out = ({name for cell in column for name in re.findall(r"`([$\w]+)`", cell)} for column in columns)
    assert covered | left_out == set(schema("run-record")["properties"]) - {"digest"}
    assert not covered & left_out
    document = {**run_document(), "proofs": "0" * 64, "artifacts": "0" * 64}
    digest = content_digest(document)
    for name in left_out:
        assert content_digest({**document, name: "something else"}) == digest, name
    for name in covered:
        assert content_digest({**document, name: changed(document[name])}) != digest, name


def changed(value: Any) -> Any:
    """Another value of the same form."""
    if isinstance(value, str):
        return f"{value}x"
    other = deepcopy(value)
    if isinstance(other, list):
        return other[:-1]
    part = next(name for name in ("seeds", "train", "unlearned") if name in other)
    if part == "seeds":
        other[part]["train"] += 1
    elif part == "train":
        other[part]["rows"] += 1
    else:
        other[part][0]["sha256"] = "0" * 64
    return other


def test_the_author_of_a_method_can_see_where_an_error_comes_from(tutorial_site: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    shutil.copytree(tutorial_site, site)
    method = site / "unlearnbench_gentle" / "method.py"
    method.write_text(method.read_text("utf-8").replace("steps = self._climb(job)", 'raise ValueError("no rows")'))
    command = "unlearnbench run -u gentle --dataset wine --model logistic --no-tracking"
    printed = examples.run(examples.Step(f"UNLEARNBENCH_TRACEBACK=1 {command}", "", code=4), tmp_path, site)
    assert re.search(r'method\.py", line \d+, in unlearn', printed)
    assert "\nerror: [plugin-raised] unlearner gentle: unlearn gentle (seed 0): ValueError: no rows" in printed
