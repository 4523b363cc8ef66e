"""The site as files: complete, escaped, the same bytes every time, whole or not at all."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import shlex
import signal
import socket
import stat
import subprocess
import sys
import threading
import urllib.error
import urllib.request
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import shared
from boards import (
    ATTACKS,
    SCENARIOS,
    around,
    entry,
    hostile_board,
    hostile_changes,
    row,
    runs,
    small_board,
    some_changes,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from records import run_document, write
from support import assert_one_error, call

from unlearnbench.api.errors import DataError
from unlearnbench.config import resolve_experiment
from unlearnbench.leaderboard.board import Board, Change, Ranking
from unlearnbench.leaderboard.site import build_site, figures
from unlearnbench.leaderboard.site.build import MARKER
from unlearnbench.leaderboard.site.command import commands
from unlearnbench.leaderboard.site.downloads import COLUMNS, as_csv, lines
from unlearnbench.leaderboard.site.feed import latest_first, moment
from unlearnbench.leaderboard.site.serve import server
from unlearnbench.leaderboard.site.text import cell, link, slugs
from unlearnbench.parameters import parse_value
from unlearnbench.registry import registry
from unlearnbench.report.svg import SERIES, blank, inline, style

ATOM = "{http://www.w3.org/2005/Atom}"
EMPTY = frozenset({"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr"})
HERE = Path(__file__).parent


@dataclass
class Page(HTMLParser):
    """A page as a browser takes it: its elements, and whether they nest."""

    text: str
    elements: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    misplaced: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.misplaced.append(tag)

    def handle_data(self, data: str) -> None:
        self.said.append(data)

    @property
    def ids(self) -> list[str]:
        return [values["id"] for _, values in self.elements if "id" in values]

    def all(self, tag: str) -> list[dict[str, str]]:
        return [values for name, values in self.elements if name == tag]


def pages_of(site: Path) -> dict[str, Page]:
    return {path.relative_to(site).as_posix(): Page(path.read_text("utf-8")) for path in sorted(site.rglob("*.html"))}


def digests(site: Path) -> dict[str, str]:
    files = [path for path in site.rglob("*") if path.is_file()]
    return {path.relative_to(site).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def site() -> Path:
    return shared.small_site()


@pytest.fixture(scope="module")
def hostile() -> Path:
    return shared.hostile_site()


@pytest.fixture(scope="module", params=["site", "hostile"])
def either(request: pytest.FixtureRequest) -> Path:
    found: Path = request.getfixturevalue(request.param)
    return found


# -- all pages ---------------------------------------------------------------------------------------------------------


def test_every_page_nests_and_gives_no_identifier_twice(either: Path) -> None:
    found = pages_of(either)
    assert len(found) > 10
    for name, page in found.items():
        assert page.misplaced == [], name
        assert page.open == [], name
        assert len(page.ids) == len(set(page.ids)), name
        assert len(page.all("h1")) == 1, name
        assert page.all("html")[0]["lang"] == "en"


def test_every_link_within_the_site_leads_somewhere_and_every_other_one_is_https(either: Path) -> None:
    found = pages_of(either)
    inside = outside = 0
    for name, page in found.items():
        for address in [values["href"] for _, values in page.elements if "href" in values]:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                assert parts.scheme == "https", f"{name}: {address}"
                outside += 1
                continue
            target = (either / name).parent / unquote(parts.path) if parts.path else either / name
            assert target.resolve().is_file(), f"{name}: {address}"
            if parts.fragment and target.suffix == ".html":
                there = found[target.resolve().relative_to(either.resolve()).as_posix()].ids
                assert parts.fragment in there, f"{name}: {address}"
            inside += 1
    assert inside > 100
    assert outside > 0


def test_nothing_is_loaded_from_elsewhere_and_nothing_is_inline(either: Path) -> None:
    for name, page in pages_of(either).items():
        assert page.all("style") == [], name
        assert all(values.keys() >= {"src"} for values in page.all("script")), name
        for tag, values in page.elements:
            assert not any(key.startswith("on") or key == "style" for key in values), f"{name}: {tag} {values}"
            for key in ("src", "srcset", "data", "poster", "action", "formaction"):
                assert "//" not in values.get(key, ""), f"{name}: {tag} {values}"
            if tag == "a" and values["href"].startswith("https"):
                assert values["rel"] == "noopener noreferrer", name
        assert not {tag for tag, _ in page.elements} & {"iframe", "object", "embed", "base", "form", "img"}, name
    sheet = (either / "static" / "board.css").read_text("utf-8")
    assert "url(" not in sheet
    assert "@import" not in sheet


def test_every_page_has_the_same_strict_policy(either: Path) -> None:
    policies = {
        values["content"]
        for page in pages_of(either).values()
        for values in page.all("meta")
        if values.get("http-equiv") == "Content-Security-Policy"
    }
    assert len(policies) == 1
    rules = {rule.split()[0]: rule.split()[1:] for rule in policies.pop().split(";")}
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == ["'none'"]
    assert rules["script-src"] == rules["style-src"] == ["'self'"]


def test_tables_have_a_caption_scopes_and_a_region_that_the_keyboard_can_scroll(either: Path) -> None:
    tables = 0
    for name, page in pages_of(either).items():
        tables += len(page.all("table"))
        assert len(page.all("caption")) == len(page.all("table")), name
        assert all(values.get("scope") in ("col", "row", "colgroup") for values in page.all("th")), name
        regions = [values for values in page.all("div") if values.get("class") == "scroll"]
        assert len(regions) == len(page.all("table")), name
        assert all(each["tabindex"] == "0" and each["role"] == "region" and each["aria-label"] for each in regions)
    assert tables > 30


def test_text_of_strangers_stays_text(hostile: Path) -> None:
    found = pages_of(hostile)
    board = next(page for name, page in found.items() if name.startswith("boards/"))
    said = " ".join("".join(board.said).split())
    for text in (ATTACKS["script"], ATTACKS["handler"], ATTACKS["template"], ATTACKS["entity"], ATTACKS["address"]):
        assert text in said
    for name, page in found.items():
        assert len(page.all("script")) == (1 if name.startswith("boards/") else 0), name
        assert {tag for tag, _ in page.elements}.isdisjoint({"img", "b onload", "x"}), name


def test_no_file_has_control_characters_or_marks_that_turn_text_around(hostile: Path) -> None:
    for path in hostile.rglob("*"):
        if path.suffix in (".html", ".xml", ".json", ".csv", ".svg", ".css", ".js"):
            text = path.read_text("utf-8")
            assert re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text) is None, path.name


def test_names_of_files_are_plain_whatever_entries_are_called(hostile: Path) -> None:
    names = [path.name for path in hostile.rglob("*") if path.is_file() and path.name != MARKER]
    assert all(re.fullmatch(r"[a-z0-9-]+\.[a-z]+", name) for name in names)
    assert len(list((hostile / "entries").iterdir())) == len(ATTACKS)
    assert len(list((hostile / "unlearners").iterdir())) == len(ATTACKS)


# -- a board -----------------------------------------------------------------------------------------------------------


def board_page(site: Path) -> str:
    return (site / "boards" / "quick-v1.html").read_text("utf-8")


def rows_of(text: str) -> list[list[str]]:
    """Cells of every row of the boards' tables, as text."""
    found = []
    for table in re.findall(r'<table class="board">.*?</table>', text, re.DOTALL):
        for line in re.findall(r"<tr data-text.*?</tr>", table, re.DOTALL):
            cells = re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", line, re.DOTALL)
            found.append([" ".join(re.sub(r"<[^>]+>", " ", each).split()) for each in cells])
    return found


def test_a_board_shows_places_in_order_with_all_parts_of_each_rank(site: Path) -> None:
    found = rows_of(board_page(site))
    assert [cells[1] for cells in found] == [
        "salun salun-authors",
        "scrub salun-authors",
        "finetune",
        "saliency+finetune retracted",
        "ssd tuned",
        "identity",
    ]
    first = found[0]
    assert first[0] == "1-2"
    assert first[2] == "1.120 [0.820, 1.420]"
    assert first[3] == "0.012 [0.0080, 0.016] rank 1.1"
    assert first[6:8] == ["0.500 [0.450, 0.550]", "1 front"]
    assert first[-2:] == ["● rerun 3 of 6 runs", "⚑ too-good"]
    assert len({len(cells) for cells in found}) == 1
    assert "by attack stronger" in found[2][5]
    assert found[3][0] == "\u2013 retracted"


def test_headers_are_buttons_and_say_how_the_table_is_sorted(site: Path) -> None:
    page = Page(board_page(site))
    columns = [values["data-column"] for values in page.all("th") if "data-column" in values]
    assert len(columns) == 3 * len(set(columns))
    assert {"place", "entry", "rank", "digits-cnn-class3-v1.privacy", "level", "flags"} <= set(columns)
    assert [v["data-column"] for v in page.all("th") if v.get("aria-sort") == "ascending"] == ["place"] * 3
    assert len([values for values in page.all("button") if values.get("type") == "button"]) == len(columns) + 1


def test_original_gold_and_floor_stand_below_the_entries(site: Path) -> None:
    text = board_page(site)
    assert "0.990 [0.980, 1.000]" in text
    assert "0.520 [0.510, 0.530]" in text
    assert "Entries are tied where a paired test over seeds does not tell them apart." in text


def test_figures_have_words_and_a_table_and_no_look_of_their_own(site: Path) -> None:
    page = Page(board_page(site))
    drawings = [values for values in page.all("svg") if values.get("role") == "img"]
    assert len(drawings) == 1 + 2 * 4
    for values in drawings:
        assert {values["aria-labelledby"], values["aria-describedby"]} <= set(page.ids)
    assert len(page.all("figcaption")) == len(drawings)
    assert len(page.all("details")) == len(drawings)
    colours = {values.get(part, "") for _, values in page.elements for part in ("fill", "stroke")}
    assert {each for each in colours if each.startswith("#")} == set()
    assert "var(--c1)" in colours


def test_a_figure_needs_no_style_attribute() -> None:
    with style():
        figure = blank(2)
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], "o--", alpha=0.5)
        axes.set_title("a title")
        drawing = ET.fromstring(inline(figure, "x", "t", "d"))
    found = [element for element in drawing.iter() if "style" in element.attrib]
    assert found == []
    assert {element.attrib.get("stroke-opacity") for element in drawing.iter()} >= {"0.5"}
    assert SERIES[0] == "c1"


def test_more_than_thirty_entries_are_all_in_the_table_and_the_figures_say_that_they_are_not(tmp_path: Path) -> None:
    records = runs("salun", seeds=(0,))
    names = [f"salun-{place}" for place in range(35)]
    many = tuple(
        row(entry(name, records=records), str(place), 0.001 * place, 1.0) for place, name in enumerate(names, start=1)
    )
    board = replace(small_board(), rankings=(Ranking("oracle-free", many, ""),))
    build_site([board], (), tmp_path / "site")
    text = board_page(tmp_path / "site")
    assert len(rows_of(text)) == 35
    assert "The first 30 of 35 entries are drawn" in text
    drawing = text[text.index("<figure>") : text.index("</figure>")]
    assert "salun-29" in drawing
    assert "salun-30" not in drawing


def test_an_entry_names_a_few_of_those_that_it_is_tied_with_and_counts_the_rest(tmp_path: Path) -> None:
    tied = tuple(f"records/other-{place}" for place in range(11))
    found = row(entry("salun"), "1-12", 0.1, 1.0, tied=tied)
    build_site([replace(small_board(), rankings=(Ranking("oracle-free", (found,), ""),))], (), tmp_path / "site")
    text = (tmp_path / "site" / "entries" / "quick-v1-records-salun.html").read_text("utf-8")
    assert "other-7" in text
    assert "other-8" not in text
    assert " and 3 more" in text


def test_another_process_draws_the_same_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_site([small_board()], (), tmp_path / "one")
    monkeypatch.setattr(figures, "FEW", 0)
    build_site([small_board()], (), tmp_path / "other")
    assert board_page(tmp_path / "one") == board_page(tmp_path / "other")
    assert "<svg" in board_page(tmp_path / "one")


def test_a_board_without_entries_and_a_site_without_boards_are_pages_too(tmp_path: Path) -> None:
    build_site([replace(small_board(), rankings=(), bounds=())], (), tmp_path / "a")
    assert "No entries yet." in board_page(tmp_path / "a")
    build_site([], (), tmp_path / "b")
    assert "No entries yet." in (tmp_path / "b" / "index.html").read_text("utf-8")
    assert "quick/v1" in (tmp_path / "b" / "suites.html").read_text("utf-8")


# -- entries, unlearners, measures, suites -----------------------------------------------------------------------------


def test_the_page_of_an_entry_has_all_readings_of_every_seed_with_the_controls_beside(site: Path) -> None:
    text = (site / "entries" / "quick-v1-salun-authors-salun.html").read_text("utf-8")
    lines = re.findall(r'<tr><th scope="row">(probe[^<]*)<small>.*?</tr>', text, re.DOTALL)
    assert lines == ["probe-auc.forget", "probe-auc.forget.fpr=0.01"] * len(SCENARIOS)
    whole = re.search(r'<tr><th scope="row">probe-auc.forget<.*?</tr>', text, re.DOTALL)
    assert whole is not None
    assert re.findall(r'class="num">([^<]*)<', whole[0]) == ["0.600", "0.000", "0.500", "0.700", *["0.600"] * 3]
    for words in ("A. Author", "CC-BY-4.0", "A note.", "too-good", "3 of 6 runs made again", "processor", "2.15.0"):
        assert words in text
    for record in small_board().rows[0].entry.records:
        assert record.document["digest"] in text
        assert record.document["models"]["gold"][0]["sha256"] in text


def test_an_entry_says_that_it_was_retracted_or_attacked_and_what_it_certifies(tmp_path: Path, site: Path) -> None:
    text = (site / "entries" / "quick-v1-records-saliency-finetune.html").read_text("utf-8")
    assert "<b>Retracted.</b> the seeds were wrong" in text
    assert "by re-attack stronger" in (site / "entries" / "quick-v1-records-finetune.html").read_text("utf-8")
    certified = entry("sisa", certificate={"epsilon": 1.5, "kind": "exact"})
    board = replace(small_board(), rankings=(Ranking("oracle-free", (row(certified, "1", 0.1, 1.0),), ""),))
    build_site([board], (), tmp_path / "site")
    made = (tmp_path / "site" / "entries" / "quick-v1-records-sisa.html").read_text("utf-8")
    assert "{&#34;epsilon&#34;: 1.5, &#34;kind&#34;: &#34;exact&#34;}" in made
    assert "certifies nothing" in text


def test_values_beyond_all_bounds_are_written_and_stop_nothing(tmp_path: Path) -> None:
    records = list(runs("salun"))
    for record, value in zip(records, (1e308, -1e308, 1e308, None, 5e-324, 0.0), strict=True):
        for reading in record.document["readings"]:
            reading["value"] = value
    found = row(entry("salun", records=tuple(records)), "1", 0.1, 1e300)
    build_site([replace(small_board(), rankings=(Ranking("oracle-free", (found,), ""),))], (), tmp_path / "site")
    text = (tmp_path / "site" / "entries" / "quick-v1-records-salun.html").read_text("utf-8")
    assert "1.0e+308" in text
    assert "inf" in text


def test_the_command_of_an_entry_resolves_to_the_spec_of_its_runs() -> None:
    board = small_board()
    found = entry("salun", params={**resolved("salun"), "lr": 0.02})
    line = commands(board, found)
    assert line == ("unlearnbench run --suite quick/v1 --unlearner salun --set salun.lr=0.02",)
    words = shlex.split(line[0])
    said = dict(each.split("=", 1) for each in words if "=" in each)
    experiment = {
        "scenario": SCENARIOS[0],
        "unlearners": [words[words.index("--unlearner") + 1]],
        "set": {name: parse_value(value) for name, value in said.items()},
    }
    spec = resolve_experiment(experiment, registry())[0].to_json()
    assert spec["unlearner"] == found.records[0].document["spec"]["unlearner"]


def resolved(unlearner: str) -> dict[str, object]:
    experiment = {"scenario": SCENARIOS[0], "unlearners": [unlearner]}
    found: dict[str, object] = resolve_experiment(experiment, registry())[0].to_json()["unlearner"]["params"]
    return found


def test_scenarios_with_settings_of_their_own_have_commands_of_their_own() -> None:
    records = (
        *runs("nowhere-to-be-found", {"lr": 0.1}, scenarios=SCENARIOS[:1]),
        *runs("nowhere-to-be-found", {"lr": 0.2}, scenarios=SCENARIOS[1:]),
    )
    lines = commands(small_board(), entry("nowhere-to-be-found", records=records))
    assert [line.partition(" --unlearner")[0] for line in lines] == [
        f"unlearnbench run --suite quick/v1 --scenario {name}" for name in SCENARIOS
    ]
    assert [line.rpartition("=")[2] for line in lines] == ["0.1", "0.2"]


@pytest.mark.parametrize("text", [*ATTACKS.values(), "5", "true", "a b", "'", "$(id)", "`id`", "!x", ""])
def test_a_shell_reads_every_value_as_it_was(text: str) -> None:
    line = commands(small_board(), entry("strange", params={"mode": text}))[0]
    assert line.isprintable()
    words = shlex.split(line)
    assert words[:5] == ["unlearnbench", "run", "--suite", "quick/v1", "--unlearner"]
    assert parse_value(words[-1].partition("=")[2]) == text


def test_the_page_of_an_unlearner_has_paper_parameters_deviations_and_bibtex(site: Path) -> None:
    text = (site / "unlearners" / "salun.html").read_text("utf-8")
    spec = registry().get("unlearner", "salun").spec
    assert spec.paper is not None
    said = "".join(Page(text).said)
    assert spec.paper.title in said
    assert all(" ".join(each.split()) in " ".join(said.split()) for each in spec.paper.deviations)
    assert spec.paper.bibtex.splitlines()[0] in said
    assert "quick/v1" in said
    assert "density" in said
    unknown = (site / "unlearners" / "saliency-finetune.html").read_text("utf-8")
    assert "[3, 7]" in unknown


def test_measures_say_what_they_read_and_what_it_decides(site: Path) -> None:
    said = " ".join("".join(Page((site / "measures.html").read_text("utf-8")).said).split())
    for name in ("accuracy", "ua-ra-ta-mia", "loss-attack", "run-cost"):
        spec = registry().get("measure", name).spec
        assert spec.summary in said
    assert "accuracy.forget stands for forgetting on digits-cnn-class3/v1 (quick/v1)" in said


def test_suites_say_what_they_fix(site: Path) -> None:
    text = (site / "suites.html").read_text("utf-8")
    board = small_board()
    for part in board.suite.parts:
        assert part.scenario in text
    assert board.suite.sha256 in text


def test_records_of_no_suite_have_a_board_with_a_command(tmp_path: Path) -> None:
    suite = replace(small_board().suite, name=SCENARIOS[0], released="", sha256="", parts=small_board().suite.parts[:1])
    found = entry("salun", records=runs("salun", scenarios=SCENARIOS[:1]))
    free = Ranking("oracle-free", (row(found, "1", 0.1, 1.0, scenarios=SCENARIOS[:1]),), "")
    board = Board(suite, False, (free,), ())
    line = commands(board, found)[0]
    assert "--suite" not in line
    assert line.startswith(f"unlearnbench run --scenario {SCENARIOS[0]} --measure accuracy --measure run-cost --seed 0")
    build_site([board], (), tmp_path / "site")
    assert "--seed 2" in (tmp_path / "site/entries/digits-cnn-class3-v1-records-salun.html").read_text("utf-8")
    elsewhere = entry("salun", records=runs("salun", scenarios=(None,)))
    assert commands(board, elsewhere) == ()


# -- downloads ---------------------------------------------------------------------------------------------------------


def test_json_csv_and_parquet_have_the_same_numbers(site: Path) -> None:
    from pyarrow import parquet

    place = site / "downloads"
    board = json.loads((place / "quick-v1.json").read_text("utf-8"))
    table = parquet.read_table(place / "quick-v1.parquet").to_pylist()
    with (place / "quick-v1.csv").open(encoding="utf-8", newline="") as stream:
        sheet = list(csv.DictReader(stream))
    assert len(sheet) == len(table) == 6 * 2 * 4 + 12
    cells = [each for ranking in board["rankings"] for line in ranking["rows"] for each in line["cells"]]
    distances = [line["distance"] for line in table if line["distance"] is not None]
    assert distances == [each["distance"]["mean"] for each in cells]
    assert [float(line["distance"]) for line in sheet if line["distance"]] == distances
    assert {line["subject"] for line in table} == {"unlearned", "original", "gold"}
    assert {line["axis"] for line in table} == {"forgetting", "utility", "privacy", "cost"}
    assert list(sheet[0]) == list(COLUMNS)


def test_no_text_cell_of_the_csv_file_is_a_formula(hostile: Path) -> None:
    sheet = list(csv.reader(io.StringIO((hostile / "downloads" / "quick-v1.csv").read_text("utf-8"))))
    texts = [each for line in sheet for each in line if not re.fullmatch(r"-?[\d.]+(e[-+]\d+)?", each)]
    assert any(each.startswith("'=HYPERLINK") for each in texts)
    assert [each for each in texts if each.lstrip()[:1] in tuple("=+-@\t\r")] == []


def test_a_number_below_zero_stays_a_number() -> None:
    board = small_board()
    below = replace(board.bounds[0], value=around(-0.25))
    sheet = list(csv.DictReader(io.StringIO(as_csv(replace(board, bounds=(below,))).decode())))
    assert sheet[-1]["value"] == "-0.25"
    assert list(lines(replace(board, bounds=(below,))))[-1]["value"] == -0.25


@given(
    st.text(max_size=30),
    st.sampled_from("=+-@\t\r"),
    st.sampled_from(["", " ", "\u00a0", "\n", "\r\n", "x\n ", "\u3000"]),
)
@settings(max_examples=200, deadline=None)
def test_no_line_of_a_cell_begins_as_a_formula(text: str, sign: str, before: str) -> None:
    for given_text in (text, f"{before}{sign}{text}"):
        written = cell(given_text)
        for line in re.split(r"[\r\n]", written):
            assert line.strip()[:1] not in tuple("=+-@"), repr(written)
        assert written.replace("'", "") == given_text.replace("'", "")
    assert cell("plain text") == "plain text"
    assert cell("a=b") == "a=b"


# -- names and addresses -----------------------------------------------------------------------------------------------


@given(st.lists(st.text(max_size=150), max_size=12), st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_names_of_files_are_safe_unique_and_of_no_order(names: list[str], chance: object) -> None:
    found = slugs(names)
    assert len(set(found.values())) == len(set(names))
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) and len(name) <= 120 for name in found.values())
    assert slugs(list(reversed(names))) == found


def test_names_that_would_meet_are_told_apart_by_a_digest() -> None:
    found = slugs(["a/b", "a-b", "A B", "c", "../..", "", "c" * 300, "c" * 301])
    assert found["c"] == "c"
    assert len(set(found.values())) == 8
    taken = slugs(["a/b", "a-b"])["a/b"]
    assert len(set(slugs(["a/b", "a-b", taken]).values())) == 3


@pytest.mark.parametrize(
    "address",
    [
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)",
        "data:text/html,x",
        "http://example.org/",
        "//example.org/",
        "https://user@example.org/",
        "https://example.org:8080/",
        "https://example.org/a b",
        "https://example.org/\n",
        " https://example.org/",
        "https://example.org/\u202e",
        "https://" + "a" * 500,
        "",
        None,
    ],
)
def test_only_plain_https_addresses_are_linked(address: str | None) -> None:
    assert link(address) == ""
    assert link("https://arxiv.org/abs/2310.12508") == "https://arxiv.org/abs/2310.12508"


# -- changes -----------------------------------------------------------------------------------------------------------


def test_the_feed_is_atom_with_the_dates_of_the_data(site: Path) -> None:
    feed = ET.fromstring((site / "feed.xml").read_text("utf-8"))
    assert feed.tag == f"{ATOM}feed"
    dates = [each.findtext(f"{ATOM}updated") for each in feed.iter(f"{ATOM}entry")]
    assert dates == ["2026-11-23T00:00:00Z", "2026-11-23T00:00:00Z", "2026-11-22T00:00:00Z", "2026-11-21T12:00:00Z"]
    assert feed.findtext(f"{ATOM}updated") == dates[0]
    ids = [each.findtext(f"{ATOM}id") for each in feed.iter(f"{ATOM}entry")]
    assert len(set(ids)) == 4
    assert "retraction: records/saliency+finetune" in {e.findtext(f"{ATOM}title") for e in feed.iter(f"{ATOM}entry")}


def test_a_hostile_feed_is_xml_still(hostile: Path) -> None:
    feed = ET.fromstring((hostile / "feed.xml").read_text("utf-8"))
    titles = {each.findtext(f"{ATOM}title") for each in feed.iter(f"{ATOM}entry")}
    assert f"submission: {ATTACKS['script']}" in titles
    assert f"submission: {ATTACKS['entity']}" in titles


def test_dates_that_are_none_are_the_beginning_and_changes_come_newest_first() -> None:
    assert moment("yesterday") == moment("2026-13-99T99") == "2026-01-01T00:00:00Z"
    changes = [Change("2026-11-21", "submission", name, "") for name in "cab"] + [
        Change("2026-11-22", "submission", "z", "")
    ]
    assert [change.subject for change in latest_first(reversed(changes))] == ["z", "a", "b", "c"]


# -- writing -----------------------------------------------------------------------------------------------------------


def test_the_same_boards_give_the_same_bytes_in_any_order_and_any_process(tmp_path: Path) -> None:
    build = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]); import boards, test_leaderboard_site\n"
        "test_leaderboard_site.build_two(Path(sys.argv[2]), turned=True)\n"
    )
    build_two(tmp_path / "here", turned=False)
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    environment = {**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "MPLBACKEND": "pdf"}
    command = [sys.executable, "-c", build, str(HERE), "made"]
    subprocess.run(command, check=True, cwd=folder, env=environment)
    found = digests(tmp_path / "here")
    assert len(found) > 30
    assert digests(folder / "made") == found


def build_two(out: Path, *, turned: bool) -> None:
    """A board with figures and one of hostile text without, given in one order or the other."""
    hostile = hostile_board()
    suite = replace(hostile.suite, name="other/v1", parts=hostile.suite.parts[:1])
    unranked = tuple(replace(each, rank=None, cells=()) for each in hostile.rows)
    made = [small_board(), replace(hostile, suite=suite, bounds=(), rankings=(Ranking("oracle-free", unranked, ""),))]
    changes = [*some_changes(), *hostile_changes()]
    step = -1 if turned else 1
    build_site(made[::step], changes[::step], out)


def test_a_site_replaces_a_site_and_nothing_of_the_old_one_stays(tmp_path: Path) -> None:
    out = tmp_path / "site"
    build_site([small_board()], some_changes(), out)
    build_site([], (), out)
    assert not (out / "boards").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["site"]
    assert stat.S_IMODE(out.stat().st_mode) == 0o755


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "mine"
    out.mkdir()
    (out / "thesis.tex").write_text("years of work")
    with pytest.raises(DataError, match=r"has files of its own, such as thesis\.tex") as refused:
        build_site([], (), out)
    assert refused.value.code == "not-a-site"
    assert (out / "thesis.tex").read_text() == "years of work"
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_site_to_which_somebody_added_a_file_is_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "site"
    build_site([], (), out)
    (out / "CNAME").write_text("example.org")
    with pytest.raises(DataError, match="CNAME"):
        build_site([small_board()], (), out)
    assert not (out / "boards").exists()


def test_a_link_and_a_file_are_no_folders_to_write_to(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "file").write_text("x")
    for name in ("link", "file"):
        with pytest.raises(DataError, match="is there and is no folder"):
            build_site([], (), tmp_path / name)
    assert list((tmp_path / "real").iterdir()) == []


def test_a_build_that_fails_leaves_the_old_site_and_no_rest(tmp_path: Path) -> None:
    out = tmp_path / "site"
    build_site([small_board()], (), out)
    before = digests(out)
    broken = replace(small_board(), bounds=(replace(small_board().bounds[0], value=around(float("nan"))),))
    with pytest.raises(ValueError, match="JSON compliant"):
        build_site([broken], (), out)
    assert digests(out) == before
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


# -- the commands ------------------------------------------------------------------------------------------------------


def test_build_makes_a_site_of_records_and_leaves_out_what_is_not_valid(tmp_path: Path) -> None:
    for seed in range(3):
        write(tmp_path / "runs", run_document(seeds=(seed,) * 3))
        write(tmp_path / "runs", run_document(unlearner={"name": "finetune", "params": {}}, seeds=(seed,) * 3))
    (tmp_path / "runs" / "broken").mkdir()
    (tmp_path / "runs" / "broken" / "record.json").write_text("{")
    command = [sys.executable, "-m", "unlearnbench", "leaderboard", "build", "runs", "-o", "site"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "broken" in done.stderr
    assert "2 entries" in done.stdout
    assert done.stdout.splitlines()[-1].split() == ["site", "site/index.html"]
    assert len(list((tmp_path / "site" / "entries").iterdir())) == 2


def test_build_refuses_a_folder_that_is_no_site_in_one_line(tmp_path: Path) -> None:
    write(tmp_path / "runs", run_document())
    done = call("leaderboard", "build", tmp_path / "runs", "-o", tmp_path / "runs")
    assert_one_error(done, 5, "not-a-site")
    assert len(list((tmp_path / "runs").iterdir())) == 1


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    found = server(site, "127.0.0.1", 0)
    thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{found.server_address[1]}"
    found.shutdown()
    found.server_close()
    thread.join()


def test_a_served_page_comes_with_headers_that_forbid_what_it_does_not_need(address: str) -> None:
    with urllib.request.urlopen(f"{address}/boards/quick-v1.html") as answer:
        assert answer.status == 200
        assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        assert "Python" not in answer.headers["Server"]
    with urllib.request.urlopen(f"{address}/static/board.js") as answer:
        assert answer.headers["Content-Type"] == "text/javascript; charset=utf-8"


@pytest.mark.parametrize("path", ["/boards/", "/static", f"/{MARKER}", "/..%2f..%2fetc/passwd", "/no.html", "/%00"])
def test_folders_hidden_files_and_whatever_is_outside_are_not_served(address: str, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{address}{path}")
    with refused.value as answer:
        assert answer.code == 404
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_a_link_that_leads_out_of_the_site_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.html").write_text("secret")
    out = tmp_path / "site"
    build_site([], (), out)
    (out / "out.html").symlink_to(tmp_path / "secret.html")
    found = server(out, "127.0.0.1", 0)
    thread = threading.Thread(target=found.handle_request)
    thread.start()
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"http://127.0.0.1:{found.server_address[1]}/out.html")
    refused.value.close()
    thread.join()
    found.server_close()
    assert refused.value.code == 404


def test_only_reading_is_answered(address: str) -> None:
    for method in ("POST", "PUT", "DELETE"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(urllib.request.Request(f"{address}/index.html", method=method, data=b"x"))
        refused.value.close()
        assert refused.value.code == 501
    with urllib.request.urlopen(urllib.request.Request(f"{address}/index.html", method="HEAD")) as answer:
        assert answer.read() == b""


def test_serve_says_where_it_serves_and_ends_with_a_line(site: Path) -> None:
    command = [sys.executable, "-u", "-m", "unlearnbench", "leaderboard", "serve", str(site), "--port", "0"]
    # What runs in the background of a shell is born deaf to it, and would hand that on.
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heard
    ) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        where = re.match(r"http://127\.0\.0\.1:\d+/", said)
        assert where is not None
        with urllib.request.urlopen(where[0]) as answer:
            assert b"How near to gold?" in answer.read()
        process.send_signal(signal.SIGINT)
        rest, problems = process.communicate(timeout=30)
    assert (process.returncode, rest, problems) == (0, "ended\n", "")


def test_serve_says_what_is_wrong_with_a_folder_and_a_port(site: Path, tmp_path: Path) -> None:
    assert_one_error(call("leaderboard", "serve", tmp_path), 5, "not-a-site")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert_one_error(call("leaderboard", "serve", site, "--port", port), 2, "cannot-listen")
