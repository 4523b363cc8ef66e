"""The report: one page that holds everything, draws what records say, and lets nothing of them act."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
from records import SALUN, run_document, write
from support import Done, assert_one_error, call, spawn

from unlearnbench.api.runtime import Reading
from unlearnbench.comparison import Comparison, compare, reading_keys
from unlearnbench.record import Record, find_records, read_record
from unlearnbench.report import make_report
from unlearnbench.report.curves import relearn_curves, roc_curves
from unlearnbench.report.drawing import at, looks, named, number, short
from unlearnbench.report.gaps import gap_readings
from unlearnbench.report.pareto import beating, contests, entries
from unlearnbench.report.svg import blank, colour, inline, style

VOID = {"br", "hr", "img", "input", "link", "meta"}
HOSTILE = (
    "<script>alert(1)<script>",
    '"><img src=x onerror=alert(1)>',
    "javascript:alert(1)",
    "a\x1b[2J\u202eb",
    "{{ 7*7 }} --><svg onload=alert(1)>",
    "x" * 150,
    "$x_1$ #0a0001",
)
STRENGTH = {"original": 0.9, "gold": 0.5, "salun": 0.8, "finetune": 0.2}
"""AUC of an attack: far above gold, gold, above, and far below, which leaks as much."""


def audit(unlearner: str, seed: int) -> list[Reading]:
    """What an audit reads of a run: an attack with its curve, relearning, the time."""
    found = []
    for subject in ("original", "gold", "unlearned"):
        strength = STRENGTH.get(unlearner if subject == "unlearned" else subject, 0.6) + 0.01 * (seed - 1)
        rates = {"0.001": 0.0 if subject == "gold" else 0.02 * strength, "0.01": 0.1 * strength, "0.1": 0.6 * strength}
        known = {"0": 0.02, "5": 0.5 * strength, "20": 0.95}
        found += [
            Reading("auc", strength, 146, split="forget", low=strength - 0.05, high=strength + 0.05, subject=subject),
            *(Reading("loss-tpr", v, 146, split="forget", at={"fpr": x}, subject=subject) for x, v in rates.items()),
            *(Reading("relearn", v, 146, split="forget", at={"step": x}, subject=subject) for x, v in known.items()),
            Reading("f1", 0.96, 323, better="higher", split="test", subject=subject),
            Reading("cpu-time", 1 + strength, 1, better="lower", unit="s", subject=subject),
        ]
    return found


def write_runs(out: Path, unlearners: Sequence[str], seeds: Sequence[int] = (0, 1, 2), **options: Any) -> Path:
    for name in unlearners:
        for seed in seeds:
            method = SALUN if name == "salun" else {"name": name, "params": {}}
            extra = audit(name, seed)
            write(out, run_document(unlearner=method, seeds=(seed,) * 3, extra=extra, **options))
    return out


def load(folder: Path) -> list[Record]:
    return [read_record(path) for path in find_records(folder)]


def compared(folder: Path) -> Comparison:
    records = load(folder)
    return compare(records, reading_keys(records))[0]


@pytest.fixture(scope="module")
def comparison(runs: Path) -> Comparison:
    return compared(runs)


@dataclass
class Element:
    tag: str
    attributes: dict[str, str | None]
    text: str = ""
    inside: list[Element] = field(default_factory=list)

    def all(self, tag: str = "") -> list[Element]:
        """Elements below this one, in the order of the page."""
        found = []
        for child in self.inside:
            found += [child] if not tag or child.tag == tag else []
            found += child.all(tag)
        return found

    def whole(self) -> str:
        return " ".join([self.text, *(child.whole() for child in self.inside)])


class Page(HTMLParser):
    """Reads a page as HTML5, and refuses what a browser would have to guess about."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.root = Element("", {})
        self.declared: list[str] = []
        self._open = [self.root]
        self.feed(text)
        self.close()
        assert [e.tag for e in self._open] == [""], "elements are left open"

    def handle_decl(self, decl: str) -> None:
        self.declared.append(decl)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data[:60]}")

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"an attribute stands twice in <{tag}>"
        element = Element(tag, dict(attrs))
        self._open[-1].inside.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert any(e.tag == "svg" for e in [*self._open, Element(tag, {})]), f"<{tag}/> closes nothing in HTML"
        self.handle_starttag(tag, attrs)
        self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open[-1].tag == tag, f"</{tag}> closes <{self._open[-1].tag}>"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        self._open[-1].text += data


def assert_alone(text: str) -> Page:
    """A whole page that asks for nothing and runs nothing."""
    page = Page(text)
    elements = page.root.all()
    assert page.declared == ["doctype html"]
    assert {e.tag for e in elements}.isdisjoint(
        {"script", "link", "img", "iframe", "object", "embed", "image", "form", "base", "foreignobject"}
    )
    for element in elements:
        for name, value in element.attributes.items():
            assert not name.startswith("on"), name
            assert name not in ("src", "srcset", "action", "data", "poster", "xlink:href"), name
            assert name != "href" or (value or "").startswith("#"), value
            assert name == "content" or not re.search(r"url\((?!#)", value or ""), value
    assert not re.search(r"https?:|@import|url\([^#]", text)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e]", text)
    ids = [e.attributes["id"] for e in elements if "id" in e.attributes]
    assert len(set(ids)) == len(ids)
    for element in elements:
        named_by = f"{element.attributes.get('aria-labelledby', '')} {element.attributes.get('aria-describedby', '')}"
        links = (element.attributes.get("href") or "").removeprefix("#")
        clips = re.findall(r"url\(#(.+?)\)", " ".join(v or "" for v in element.attributes.values()))
        assert {*named_by.split(), *links.split(), *clips} <= set(ids)
    return page


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_runs(tmp_path_factory.mktemp("report") / "runs", ("salun", "finetune"))


@pytest.fixture(scope="module")
def made(runs: Path) -> tuple[Done, str]:
    """What the command printed, and the page that it wrote."""
    done = spawn("report", "runs", "-o", "page.html", cwd=runs.parent)
    return done, (runs.parent / "page.html").read_bytes().decode()


@pytest.fixture(scope="module")
def page(made: tuple[Done, str]) -> Page:
    return assert_alone(made[1])


def headings(page: Page) -> list[str]:
    return [e.text for e in page.root.all("h4")]


# -- the page ----------------------------------------------------------------------------------------------------------


def test_the_command_writes_one_page_that_holds_everything(made: tuple[Done, str], page: Page) -> None:
    done, _ = made
    assert (done.rc, done.stdout, done.stderr) == (0, "report  page.html\n", "")
    html = page.root.all("html")[0]
    assert html.attributes["lang"] == "en"
    assert page.root.all("title")[0].text == "Unlearning report"
    assert any(e.attributes.get("name") == "viewport" for e in page.root.all("meta"))


def test_the_same_records_give_the_same_bytes_whatever_the_order_and_the_readers_style(
    runs: Path, made: tuple[Done, str]
) -> None:
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "black", "svg.hashsalt": "mine", "lines.linewidth": 9}):
        assert make_report(load(runs)[::-1]) == made[1]
        assert mpl.rcParams["font.size"] == 30


def test_every_figure_has_an_alternative_text_a_caption_and_its_numbers(page: Page) -> None:
    figures = page.root.all("figure")
    assert len(figures) >= 6
    for figure in figures:
        (svg,) = figure.all("svg")
        assert svg.attributes["role"] == "img"
        assert svg.attributes["viewbox"]
        assert len(svg.all("title")[0].text) > 10
        assert re.search(r"\d", svg.all("desc")[0].text)
        assert figure.all("figcaption")[0].text.strip()
        (details,) = figure.all("details")
        assert len(details.all("tr")) >= 3
        assert all(len(row.inside) == len(details.all("tr")[0].inside) for row in details.all("tr"))


def test_all_kinds_of_figures_are_drawn_where_there_are_readings(page: Page) -> None:
    assert [e.text for e in page.root.all("h3")] == [
        "What was run", "Gap to gold", "Forgetting, utility, cost", "Attacks", "Relearning", "Readings"
    ]  # fmt: skip
    assert {
        "Gap to gold, probe: auc on forget",
        "Gap to gold, accuracy on forget",
        "Forgetting, utility and cost, by probe: auc on forget",
        "Attack ROC, probe: loss-tpr on forget",
        "Relearning, probe: relearn on forget",
    } <= set(headings(page))


def test_a_verdict_is_said_in_words_and_forgetting_too_much_leaks_too(page: Page) -> None:
    (auc,) = [r for r in page.root.all("tr") if r.all("th") and r.all("th")[0].text == "probe: auc on forget"]
    assert [e.text for e in auc.all("small") if e.attributes.get("class") == "leak"] == [
        "leaks: above gold", "leaks: below gold", "leaks: above gold"
    ]  # fmt: skip


def test_numbers_are_those_of_the_comparison(comparison: Comparison, page: Page) -> None:
    reading = next(r for r in comparison.readings if r.key == "auc.forget")
    (row,) = [r for r in page.root.all("tr") if r.all("th") and r.all("th")[0].text == "probe: auc on forget"]
    for cell, subject in zip(row.all("td"), reading.rows, strict=True):
        assert cell.text.strip() == number(subject.value.mean)
        assert f"[{number(subject.value.low)}, {number(subject.value.high)}]" in cell.whole()


def test_colours_follow_the_page_so_that_figures_are_legible_in_the_dark(made: tuple[Done, str]) -> None:
    drawings = "".join(re.findall(r"<svg.*?</svg>", made[1], re.DOTALL))
    assert "var(--ink)" in drawings
    assert not re.search(r"#[0-9a-f]{6}|rgb\(|font-family", drawings)
    sheet = made[1].split("<style>")[1].split("</style>")[0]
    light, dark = sheet.split("@media (prefers-color-scheme: dark)")
    used = set(re.findall(r"var\((--\w+)\)", made[1]))
    assert used <= set(re.findall(r"(--\w+):", light))
    assert set(re.findall(r"(--\w+):", light)) == set(re.findall(r"(--\w+):", dark.split("}")[0]))


def test_wide_tables_scroll_in_a_box_that_the_keyboard_reaches(page: Page) -> None:
    boxes = [e for e in page.root.all("div") if e.attributes.get("class") == "scroll"]
    assert sum(len(box.all("table")) for box in boxes) == len(page.root.all("table"))
    assert all(box.attributes["tabindex"] == "0" and box.attributes["aria-label"] for box in boxes)


def test_scenarios_stand_apart_and_can_be_reached(tmp_path: Path) -> None:
    write_runs(tmp_path, ("salun",), seeds=(0,))
    write(tmp_path, run_document(scenario="other/v1", requests=[{"kind": "class", "classes": ["5"]}] * 2))
    page = assert_alone(make_report(load(tmp_path)))
    sections = page.root.all("section")
    assert len(sections) == 2
    assert [e.attributes["href"] for e in page.root.all("a")] == [f"#{e.attributes['id']}" for e in sections]


def test_without_readings_for_a_figure_the_page_says_what_to_run(tmp_path: Path) -> None:
    write(tmp_path, run_document())
    page = assert_alone(make_report(load(tmp_path)))
    instead = [e.whole() for e in page.root.all("p") if e.attributes.get("class") == "more"]
    assert ["--profile audit" in text for text in instead] == [False, True, True]  # the front, attacks, relearning
    assert not [heading for heading in headings(page) if heading.startswith(("Attack", "Relearning"))]


def test_runs_that_came_to_nothing_are_told(tmp_path: Path) -> None:
    write(tmp_path, run_document(status="failed"))
    page = assert_alone(make_report(load(tmp_path)))
    assert "failed" in page.root.all("main")[0].whole()
    assert not page.root.all("figure")


def test_a_stream_is_drawn_after_its_last_request(tmp_path: Path) -> None:
    requests = [{"kind": "class", "classes": [name]} for name in "35"]
    for seed in range(3):
        write(tmp_path, run_document(seeds=(seed,) * 3, requests=requests))
    page = assert_alone(make_report(load(tmp_path)))
    assert "Gap to gold, accuracy on forget" in headings(page)


# -- nothing in a record acts ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("hostile")
    for name in HOSTILE:
        mean = [
            Reading(name, 0.5, 9, split=name, at={"fpr": "0.01"}, unit=name, subject=s) for s in ("gold", "unlearned")
        ]
        tpr = [Reading(f"{name}tpr", 0.5, 9, at={"fpr": "0.01"}, subject=s) for s in ("gold", "unlearned")]
        hurt = [Reading(f"{name}auc", None, 9, split="forget", status=name, subject="unlearned")]
        requests = [{"kind": "class", "classes": [name]}]
        document = run_document(
            unlearner={"name": name, "params": {name: name}}, requests=requests, scenario=f"{HOSTILE[0]}/v1",
            extra=[*audit("x", 0), *mean, *tpr, *hurt],
        )  # fmt: skip
        write(folder, document)
    done = call("report", folder, "-o", folder / "page.html")
    assert (done.rc, done.stderr) == (0, "")
    return (folder / "page.html").read_text("utf-8")


def test_hostile_names_stay_text(attacked: str) -> None:
    page = assert_alone(attacked)
    said = page.root.whole()
    for name in (HOSTILE[0], HOSTILE[1], HOSTILE[2], HOSTILE[4], HOSTILE[6]):
        assert name in said
    assert "49" not in [word for e in page.root.all("th") for word in e.text.split()]


def test_hostile_names_reach_neither_attributes_that_style_nor_identifiers(attacked: str) -> None:
    for element in assert_alone(attacked).root.all():
        for name, value in element.attributes.items():
            if name not in ("aria-label", "content"):
                assert "alert" not in (value or ""), (name, value)


def test_long_names_are_cut_in_figures_and_whole_in_tables(attacked: str) -> None:
    page = assert_alone(attacked)
    texts = [e.text for e in page.root.all("text")]
    assert max(map(len, texts)) <= 48
    assert HOSTILE[5] in [e.text for e in page.root.all("th")]


def test_svg_texts_and_descriptions_are_escaped() -> None:
    with style():
        figure = blank(2)
        figure.add_subplot().plot([1], [1], color=colour("c1"), label="x")
        figure.axes[0].set_title(HOSTILE[0])
        text = inline(figure, "f1", HOSTILE[1], HOSTILE[4])
    tags = {e.tag for e in Page(text).root.all()}
    assert tags <= {"svg", "title", "desc", "g", "path", "use", "defs", "text", "clippath", "rect"}


def test_a_name_that_looks_like_a_stand_in_for_a_colour_stays_as_it_is() -> None:
    with style():
        figure = blank(2)
        figure.add_subplot().set_title("#0a0001 is my name")
        text = inline(figure, "f1", "title", "description")
    assert "#0a0001 is my name" in text


# -- what is drawn -----------------------------------------------------------------------------------------------------


def test_attacks_and_relearning_become_curves_over_rates_and_steps(comparison: Comparison) -> None:
    (roc,), (relearn,) = roc_curves(comparison), relearn_curves(comparison)
    assert list(roc.series) == ["original", "gold", "finetune", "salun"]
    assert [(x, round(y, 4)) for x, y, _ in roc.series["salun"]] == [(0.001, 0.016), (0.01, 0.08), (0.1, 0.48)]
    assert [(x, round(y, 4)) for x, y, _ in relearn.series["gold"]] == [(0, 0.02), (5, 0.25), (20, 0.95)]
    assert {estimate.n for _, _, estimate in roc.series["salun"]} == {3}


def test_places_that_are_no_numbers_are_no_points_of_a_curve(tmp_path: Path) -> None:
    places = [{"step": "many"}, {"step": "1", "layer": "2"}, {"step": "1e999"}, {"step": "-1"}, {"step": "nan"}]
    extra = [Reading("again", 0.5, 9, at=place, subject=s) for place in places for s in ("gold", "unlearned")]
    write(tmp_path, run_document(extra=extra))
    comparison = compared(tmp_path)
    assert len([r for r in comparison.readings if r.name == "again"]) == len(places)
    assert relearn_curves(comparison) == []


def test_gap_figures_leave_out_single_places_and_times_and_begin_with_attacks(comparison: Comparison) -> None:
    found = [reading.key for reading in gap_readings(comparison)]
    assert found[0] == "auc.forget"
    assert "accuracy.forget" in found
    assert not [key for key in found if "=" in key]


def test_one_is_beaten_by_those_that_are_nowhere_worse_and_somewhere_better() -> None:
    scores = {"a": (0.1, 1.0), "b": (0.2, 0.5), "c": (0.2, 1.0), "d": (0.1, 1.0), "e": (0.3, 0.4)}
    assert {label: sorted(beating(label, scores)) for label in scores} == {
        "a": [], "b": [], "c": ["a", "b", "d"], "d": [], "e": []
    }  # fmt: skip


def test_the_front_weighs_distance_to_gold_utility_and_time(comparison: Comparison) -> None:
    contest = contests(comparison)[0]
    assert (contest.forgetting.key, contest.utility.key) == ("auc.forget", "f1.test")
    assert contest.cost is not None
    found = {entry.label: entry for entry in entries(contest)}
    # Both lie 0.3 from gold and have the same utility: the faster one beats the other.
    assert found["salun"].forgetting.mean == pytest.approx(found["finetune"].forgetting.mean)
    assert (found["salun"].beaten_by, found["finetune"].beaten_by) == (("finetune",), ())


def test_unlearners_look_different_beyond_the_number_of_colours(tmp_path: Path) -> None:
    names = [f"method-{place}" for place in range(20)]
    for name in names:
        write(tmp_path, run_document(unlearner={"name": name, "params": {}}))
    found = looks(compared(tmp_path))
    assert len({(look.colour, look.mark) for look in found.values()}) == len(names) + 2


def test_numbers_and_names_are_short() -> None:
    assert [number(v) for v in (None, 0.0, 0.12345, 1234.5, 0.001234, 1e-9, -2e8)] == [
        "none", "0.000", "0.123", "1,234", "0.0012", "1.0e-09", "-2.0e+08"
    ]  # fmt: skip
    assert short("a" * 30, 10) == "a" * 9 + "…"
    assert named("accuracy", "", "accuracy", "test") == "accuracy on test"


def test_a_reading_about_all_rows_stands_nowhere_on_an_axis(comparison: Comparison) -> None:
    readings = {reading.key: reading for reading in comparison.readings}
    assert at(readings["loss-tpr.forget.fpr=0.001"], "fpr") == 0.001
    assert at(readings["loss-tpr.forget.fpr=0.001"], "step") is None
    assert at(readings["auc.forget"], "fpr") is None


# -- what cannot be reported -------------------------------------------------------------------------------------------


def test_folders_without_records_are_refused(tmp_path: Path) -> None:
    assert_one_error(call("report", tmp_path, "-o", tmp_path / "a.html"), 2, "no-records", "no record.json")
    assert_one_error(call("report", tmp_path / "none", "-o", tmp_path / "a.html"), 5, "missing-file", "does not exist")
    assert list(tmp_path.iterdir()) == []


def test_a_page_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    record = write(tmp_path / "runs", run_document())
    before = sorted(tmp_path.rglob("*"))
    assert_one_error(call("report", record.path, "-o", tmp_path / "no" / "a.html"), 5, "cannot-write", "No such file")
    assert_one_error(call("report", record.path, "-o", tmp_path / "runs"), 5, "cannot-write", "directory")
    assert sorted(tmp_path.rglob("*")) == before


def test_records_that_cannot_be_read_are_named_and_the_rest_is_reported(tmp_path: Path) -> None:
    write(tmp_path / "runs", run_document())
    broken = tmp_path / "runs" / "broken"
    broken.mkdir()
    (broken / "record.json").write_text("{", "utf-8")
    done = call("report", tmp_path / "runs", "-o", tmp_path / "a.html")
    assert done.rc == 1
    assert done.stderr.count("\n") == 1
    assert str(broken) in done.stderr
    assert_alone((tmp_path / "a.html").read_text("utf-8"))


def test_nothing_is_written_where_no_record_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text("{", "utf-8")
    done = call("report", tmp_path, "-o", tmp_path / "a.html")
    assert (done.rc, done.stdout) == (1, "")
    assert not (tmp_path / "a.html").exists()
