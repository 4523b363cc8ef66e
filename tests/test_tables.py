"""Tables of papers: numbers from hand-made records against those worked out by hand, and the way through the CLI."""

from __future__ import annotations

import html.parser
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import stdev
from typing import Any

import pandas as pd
import pytest
from records import SALUN, run_document, sha, write
from support import assert_error, call, spawn
from toys_support import TOYS, toy_registry

from unlearnbench.api import DatasetSpec, MeasureSpec, Paper, ReadingSpec, TableColumn, TableSpec, UsageError
from unlearnbench.api.runtime import Reading, Subject
from unlearnbench.comparison import FilledTable, fill_table
from unlearnbench.comparison.tables import Block, Cell, TableRow
from unlearnbench.plugins import Plugin, _checked, _collect
from unlearnbench.record import Record, content_digest
from unlearnbench.registry import BroughtTable, Registry
from unlearnbench.report.paper_table import cells, format_of, headings
from unlearnbench.testing.contract import Broken, NotApplicable
from unlearnbench.testing.kit import checks_of_plugin
from unlearnbench.testing.tables import TableBench, names_readings_that_exist

ADA = {"name": "ada", "params": {"lr": 0.1}}
FORGET = TableColumn(heading="Acc_f %", measure="accuracy", reading="accuracy", split="forget", scale=100, digits=1)
EPOCHS = TableColumn(heading="RT", measure="probe", reading="epochs", failures=True)
PROBE = TableColumn(heading="p", measure="probe", reading="p")
ACCURACIES = TableSpec(name="accuracies", summary="Accuracies alone.", columns=(FORGET,))
PAPER = TableSpec(
    name="paper",
    summary="Two columns.",
    columns=(PROBE, EPOCHS),
    subjects=(("gold", "retrained"), ("original", "base")),
    paper=Paper(title="On Tables", authors=("Ada Lovelace", "Mary Somerville"), year=1843),
)


def document(number: int, seed: int, *extra: Reading, unlearner: Mapping[str, Any] = SALUN, **more: Any) -> Any:
    """A run that forgets class ``number``; ``run_document`` gives all requests of one length the same rows."""
    found = run_document(
        unlearner=unlearner,
        seeds=(seed, more.pop("unlearn", 0), 0),
        requests=[{"kind": "class", "classes": [str(number)]}],
        scenario=None,
        extra=extra,
        **more,
    )
    found["requests"][0]["digest"] = sha(f"rows of class {number}")
    return signed(found)


def signed(found: dict[str, Any]) -> dict[str, Any]:
    found["digest"] = content_digest(found)
    return found


def p(value: float | None, subject: Subject = "unlearned", name: str = "p", status: str = "ok") -> Reading:
    return Reading(name, value, 10, subject=subject, status=status if value is not None else "censored")


def of(folder: Path, documents: Iterable[Mapping[str, Any]]) -> list[Record]:
    return [write(folder / str(n), found) for n, found in enumerate(documents)]


def block(spec: TableSpec, records: Sequence[Record]) -> Block:
    (found,) = fill_table(spec, records).blocks
    return found


def row(found: Block, label: str) -> TableRow:
    (one,) = (one for one in found.rows if one.label == label)
    return one


def cell(found: Block, label: str, place: int = 0) -> Cell:
    return row(found, label).cells[place]


# -- arithmetic --------------------------------------------------------------------------------------------------------

VALUES = {(0, 0): 0.1, (1, 0): 0.2, (2, 0): 0.6, (0, 1): 0.5, (1, 1): 0.7, (2, 1): 0.9}
"""By class and training seed: means over classes are 0.3 and 0.7."""


def test_a_cell_is_the_mean_over_requests_and_then_over_seeds(tmp_path: Path) -> None:
    found = block(PAPER, of(tmp_path, [document(c, seed, p(value)) for (c, seed), value in VALUES.items()]))
    one = cell(found, "salun")
    assert one.seeds == pytest.approx({0: 0.3, 1: 0.7})
    assert (one.mean, one.sd) == (pytest.approx(0.5), pytest.approx(stdev([0.3, 0.7])))
    assert (one.n, one.without) == (6, 0)
    assert (row(found, "salun").runs, row(found, "salun").missing) == (6, ())
    assert found.requests == ("class=0", "class=1", "class=2")
    assert found.train_seeds == (0, 1)


def test_percent_and_digits_are_those_of_the_column_and_one_seed_has_no_deviation(tmp_path: Path) -> None:
    table = fill_table(ACCURACIES, of(tmp_path, [document(0, 0)]))
    assert headings(table) == ["Acc_f %", "runs"]
    assert {r.label: cells(table, r) for r in table.blocks[0].rows} == {
        "original": ["99.3", "1"],
        "gold": ["0.0", "1"],
        "salun": ["1.4", "1"],
    }


def test_several_unlearning_seeds_of_one_training_seed_weigh_as_one(tmp_path: Path) -> None:
    runs = [document(0, 0, p(0.2)), document(0, 0, p(0.4), unlearn=1), document(1, 0, p(0.9))]
    found = block(PAPER, of(tmp_path, runs))
    assert cell(found, "salun").mean == pytest.approx((0.3 + 0.9) / 2)
    assert row(found, "salun").runs == 2


def test_original_and_gold_count_once_although_every_unlearner_repeats_them(tmp_path: Path) -> None:
    both = [(0, 0.2), (1, 0.4)]
    runs = [document(c, 0, p(0.5), p(v, "original")) for c, v in both]
    runs += [document(0, 0, p(0.5), p(0.2, "original"), unlearner=ADA)]
    found = block(PAPER, of(tmp_path, runs))
    assert cell(found, "base").mean == pytest.approx(0.3)  # 0.2 twice would make it 0.267
    assert (cell(found, "base").n, row(found, "base").runs) == (2, 2)
    assert found.notes[0].startswith("ada lacks class=1: ")


def test_records_that_disagree_on_the_original_are_said_to(tmp_path: Path) -> None:
    runs = [document(0, 0, p(0.5), p(0.2, "original")), document(0, 0, p(0.2, "original"), unlearner=ADA)]
    assert not [note for note in block(PAPER, of(tmp_path / "alike", runs)).notes if "differs" in note]
    runs[1] = document(0, 0, p(0.3, "original"), unlearner=ADA)
    (note,) = (note for note in block(PAPER, of(tmp_path / "apart", runs)).notes if "differs" in note)
    assert note == "p of base differs between records of the same request and seeds: one counts"


def test_an_unlearner_that_owns_training_has_an_original_and_a_gold_of_its_own(tmp_path: Path) -> None:
    own = document(0, 0, p(0.9, "gold"), unlearner=ADA)
    own["trainer"] = "ada"
    found = block(PAPER, of(tmp_path, [document(0, 0, p(0.1, "gold")), signed(own)]))
    labels = [one.label for one in found.rows]
    assert labels == ["retrained", "base", "retrained of ada", "base of ada", "ada", "salun"]
    assert (cell(found, "retrained").mean, cell(found, "retrained of ada").mean) == (0.1, 0.9)


def test_two_settings_of_an_unlearner_are_two_rows(tmp_path: Path) -> None:
    other = {**SALUN, "params": {**SALUN["params"], "density": 0.3}}
    found = block(PAPER, of(tmp_path, [document(0, 0, p(0.1)), document(0, 0, p(0.2), unlearner=other)]))
    assert cell(found, "salun (density=0.5)").mean == 0.1
    assert cell(found, "salun (density=0.3)").mean == 0.2


def test_streams_show_what_was_read_after_the_last_request(tmp_path: Path) -> None:
    steps = [{"kind": "class", "classes": [str(c)]} for c in (3, 5)]
    (record,) = of(tmp_path, [run_document(requests=steps, scenario=None)])
    found = block(ACCURACIES, [record])
    assert cell(found, "original").mean == pytest.approx(99.31)  # after the first it reads 98.31
    assert cell(found, "original").n == 1
    assert (found.kind, found.requests) == ("streams of 2 (class)", ("class=3...class=5",))


def test_classes_stand_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    found = block(ACCURACIES, of(tmp_path, [document(c, 0) for c in (10, 9, 2)]))
    assert found.requests == ("class=2", "class=9", "class=10")


# -- what is not there -------------------------------------------------------------------------------------------------


def test_missing_runs_are_counted_and_named(tmp_path: Path) -> None:
    runs = [document(c, seed, p(value)) for (c, seed), value in VALUES.items()]
    runs += [
        document(c, seed, p(1.0), unlearner=ADA) for c, seed in VALUES if (c, seed) not in ((1, 0), (2, 0), (2, 1))
    ]
    table = fill_table(PAPER, of(tmp_path, runs))
    (found,) = table.blocks
    assert cells(table, row(found, "ada"))[-1] == "3 of 6"
    assert cells(table, row(found, "salun"))[-1] == "6"
    assert "ada lacks class=1 (seed 0), class=2: its means are over other runs and not comparable" in found.notes


def test_a_run_that_failed_is_left_out_and_missed(tmp_path: Path) -> None:
    runs = [document(0, 0, p(0.5)), document(1, 0, status="failed"), document(1, 0, p(0.3), unlearner=ADA)]
    table = fill_table(PAPER, of(tmp_path, runs))
    assert [left.reason for left in table.left_out] == ["failed: ValueError: no rows"]
    assert cells(table, row(table.blocks[0], "salun"))[-1] == "1 of 2"


def test_a_record_that_was_changed_is_left_out(tmp_path: Path) -> None:
    forged = document(1, 0, p(0.9))
    forged["readings"][-1]["value"] = 0.0
    table = fill_table(PAPER, of(tmp_path, [document(0, 0, p(0.5)), forged]))
    assert [left.reason for left in table.left_out] == ["its digest does not match its content"]
    assert cell(table.blocks[0], "salun").mean == 0.5


def test_a_run_that_lies_in_two_folders_counts_once(tmp_path: Path) -> None:
    table = fill_table(PAPER, of(tmp_path, [document(0, 0, p(0.5)), document(0, 0, p(0.5)), document(1, 0, p(0.2))]))
    assert cell(table.blocks[0], "salun").mean == pytest.approx(0.35)
    assert [left.reason.split()[:3] for left in table.left_out] == [["the", "same", "as"]]


def test_runs_without_a_value_stand_in_brackets_behind_the_mean(tmp_path: Path) -> None:
    times = {(0, 0): 10.0, (1, 0): None, (0, 1): 20.0, (1, 1): 40.0}
    runs = [document(c, seed, p(value, name="epochs")) for (c, seed), value in times.items()]
    runs += [document(c, 0, p(None, name="epochs"), unlearner=ADA) for c in (0, 1)]
    table = fill_table(PAPER, of(tmp_path, runs))
    (found,) = table.blocks
    assert cells(table, row(found, "salun"))[1] == "20.00 ±14.14 (1)"  # of 10 and 30
    assert cells(table, row(found, "ada"))[1] == "- (2)"
    assert not [note for note in found.notes if "no value of RT" in note]


def test_a_value_that_is_missing_without_brackets_is_noted(tmp_path: Path) -> None:
    runs = [document(0, 0, p(0.4)), document(1, 0, p(None)), document(2, 0, p(0.4, name="epochs"))]
    found = block(PAPER, of(tmp_path, runs))
    assert (cell(found, "salun").mean, cell(found, "salun").n) == (0.4, 1)
    assert "salun has no value of p in 2 of 3 runs" in found.notes
    assert "salun has no value of RT in 2 of 3 runs" in found.notes  # nothing was read: no failure of the method


def test_an_empty_column_stays_and_says_which_measure_would_fill_it(tmp_path: Path) -> None:
    zrf = TableColumn(heading="ZRF", measure="zrf", reading="zrf")
    per_class = TableColumn(
        heading="class 9", measure="accuracy", reading="accuracy", split="test", at=(("class", "9"),)
    )
    spec = replace(ACCURACIES, columns=(FORGET, zrf, per_class))
    table = fill_table(spec, of(tmp_path, [document(0, 0)]))
    assert headings(table) == ["Acc_f %", "ZRF", "class 9", "runs"]
    assert cells(table, table.blocks[0].rows[0]) == ["99.3", "", "", "1"]
    assert table.blocks[0].notes == (
        "empty: ZRF; `--measure zrf` would fill it",
        "empty: class 9; measure accuracy took no reading accuracy.test.class=9 here",
    )


def test_coordinates_choose_among_readings_of_one_name(tmp_path: Path) -> None:
    per_class = TableColumn(heading="1", measure="accuracy", reading="accuracy", split="test", at=(("class", "1"),))
    found = block(replace(ACCURACIES, columns=(per_class,)), of(tmp_path, [document(0, 0)]))
    assert cell(found, "gold").mean == 0.9  # over all classes it is 0.9814


def test_only_one_setting_of_a_measure_counts(tmp_path: Path) -> None:
    other = document(1, 0)
    other["spec"]["measures"][0]["params"] = {"top": 5}
    found = block(ACCURACIES, of(tmp_path, [document(0, 0), document(2, 0), signed(other)]))
    assert cell(found, "salun").n == 2
    (note,) = (note for note in found.notes if "settings" in note)
    assert note.endswith("only those with top=- count, 2 of 3 records")


# -- blocks ------------------------------------------------------------------------------------------------------------


def test_records_of_another_recipe_stand_in_a_block_of_their_own(tmp_path: Path) -> None:
    other = document(0, 0, p(0.9))
    other["spec"]["recipe"]["epochs"] = 3
    found = fill_table(PAPER, of(tmp_path, [document(0, 0, p(0.1)), signed(other)])).blocks
    assert sorted(cell(one, "salun").mean or 0 for one in found) == [0.1, 0.9]
    assert all(one.notes[0] == "other blocks of digits / cnn differ in recipe" for one in found)
    assert found[0].title == "digits / cnn · class: class=0 · seed 0"


def test_groups_without_a_reading_of_the_table_are_left_out_by_name(tmp_path: Path) -> None:
    other = document(0, 0)
    other["spec"]["recipe"]["epochs"] = 3
    table = fill_table(PAPER, of(tmp_path, [document(0, 0, p(0.1)), signed(other)]))
    assert len(table.blocks) == 1
    assert [left.reason for left in table.left_out] == ["has no reading of the table"]


@pytest.mark.parametrize("status", ["complete", "failed"])
def test_no_fitting_record_is_an_error_that_names_the_measures(tmp_path: Path, status: str) -> None:
    with pytest.raises(UsageError) as refusal:
        fill_table(PAPER, of(tmp_path, [document(0, 0, status=status)]))
    assert refusal.value.code == "no-fitting-records"
    assert refusal.value.hint.endswith("--measure probe")


# -- files -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def table(tmp_path: Path) -> FilledTable:
    """Two unlearners, of which one has a name that every format must escape, and a heading that is no better."""
    column = replace(PROBE, heading="p_1 <%>&", digits=3)
    spec = replace(PAPER, columns=(column, EPOCHS))
    strange = {"name": "ada", "params": {"lr": "<b>_&"}}
    plain = {"name": "ada", "params": {"lr": "0.1"}}
    runs = [document(c, seed, p(v), p(9.0, name="epochs")) for (c, seed), v in VALUES.items()]
    runs += [document(0, 0, p(0.25), p(None, name="epochs"), unlearner=one) for one in (strange, plain)]
    return fill_table(spec, of(tmp_path, runs))


def test_csv_has_numbers_that_read_back(table: FilledTable) -> None:
    found = pd.read_csv(io.StringIO(format_of(Path("t.csv"))(table, ["caption"]))).set_index("row")
    assert list(found.columns) == [
        "block", "subject", "p_1 <%>&", "p_1 <%>& sd", "RT", "RT sd", "RT failures", "runs", "runs missing",
    ]  # fmt: skip
    assert found.loc["salun", "p_1 <%>&"] == pytest.approx(0.5)
    assert found.loc["salun", "p_1 <%>& sd"] == pytest.approx(stdev([0.3, 0.7]))
    assert found.loc["ada (lr=<b>_&)", "RT failures"] == 1
    assert pd.isna(found.loc["ada (lr=<b>_&)", "RT"])
    assert list(found.loc["ada (lr=0.1)", ["runs", "runs missing"]]) == [1, 5]
    assert set(found["block"]) == {table.blocks[0].title}


class Cells(html.parser.HTMLParser):
    """The texts of a page's table cells, as a browser reads them, and every tag that it has."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.within = ""
        self.rows: list[list[str]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)
        self.within = tag
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        if self.within in ("td", "th"):
            self.rows[-1][-1] += data

    def handle_endtag(self, tag: str) -> None:
        self.within = ""


def test_html_has_the_printed_cells_and_nothing_else(table: FilledTable) -> None:
    page = Cells(format_of(Path("t.HTML"))(table, ["a <caption>"]))
    assert page.rows[0] == ["", "p_1 <%>&", "RT", "runs"]
    found = {line[0]: line[1:] for line in page.rows[1:]}
    assert found["salun"] == ["0.500 ±0.283", "9.00 ±0.00 (0)", "6"]
    assert found["ada (lr=<b>_&)"] == ["0.250", "- (1)", "1 of 6"]
    assert page.tags == {"html", "meta", "title", "h2", "table", "thead", "tbody", "tr", "th", "td", "p"}


def test_latex_is_escaped_and_keeps_captions_in_comments(table: FilledTable) -> None:
    text = format_of(Path("t.tex"))(table, ["paper · 100 % of it"])
    lines = text.splitlines()
    assert lines[0] == "% paper · 100 % of it"
    assert all(line.startswith("% ") for line in lines[: len(table.blocks[0].notes) + 1])
    assert " & p\\_1 <\\%>\\& & RT & runs \\\\" in lines
    assert "salun & 0.500 $\\pm$0.283 & 9.00 $\\pm$0.00 (0) & 6 \\\\" in lines
    assert "ada (lr=<b>\\_\\&) & 0.250 & - (1) & 1 of 6 \\\\" in lines


def test_another_ending_is_refused_and_the_three_are_named() -> None:
    with pytest.raises(UsageError, match=r"\.csv, \.tex or \.html") as refusal:
        format_of(Path("table.pdf"))
    assert refusal.value.code == "bad-output"


def test_the_document_has_numbers_and_places(table: FilledTable) -> None:
    found = json.loads(json.dumps(table.to_json(), allow_nan=False))
    assert found["table"]["name"] == "paper"
    (one,) = found["blocks"]
    salun = one["rows"][-1]
    assert salun["label"] == "salun"
    assert (salun["cells"][0]["mean"], salun["cells"][0]["n"]) == (pytest.approx(0.5), 6)
    assert one["rows"][-2]["missing"][0] == ["class=0", 1]


# -- declarations ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"heading": " "}, "must be one printable line"),
        ({"heading": "two\nlines"}, "must be one printable line"),
        ({"measure": "Accuracy!"}, "is not the name of a measure"),
        ({"reading": ""}, "needs the name of a reading"),
        ({"split": "\x1b[2J"}, "must be a printable text"),
        ({"at": (("class", 3),)}, "must be pairs of texts"),
        ({"at": (("class", "3"), ("class", "4"))}, "each coordinate once"),
        ({"at": (("request", "0"),)}, "names a request"),
        ({"scale": 0}, "a number other than 0"),
        ({"scale": float("nan")}, "a number other than 0"),
        ({"digits": -1}, "a whole number from 0 to 10"),
        ({"failures": 1}, "must be true or false"),
    ],
)
def test_a_column_that_cannot_be_printed_is_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        replace(FORGET, **change)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"name": "Table 1"}, "must be lower-case words"),
        ({"summary": ""}, "needs a summary"),
        ({"columns": ()}, "has no column"),
        ({"columns": [PROBE]}, "must be a tuple of TableColumn objects"),
        ({"columns": (PROBE, replace(EPOCHS, heading="p"))}, "headings of their own"),
        ({"columns": (replace(PROBE, heading="runs"),)}, "'runs' is the host's"),
        ({"subjects": (("unlearned", "x"),)}, "not among"),
        ({"subjects": (("gold", "x"), ("gold", "y"))}, "each model once"),
        ({"subjects": (("gold", "x"), ("original", "x"))}, "a heading of its own"),
        ({"subjects": (("gold", "\x07"),)}, "a printable heading"),
        ({"paper": "Lovelace 1843"}, "must be a Paper"),
    ],
)
def test_a_table_that_cannot_be_filled_is_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        replace(PAPER, **change)


def test_a_hook_of_tables_returns_tables_and_nothing_else() -> None:
    hook = "unlearnbench_tables"
    assert list(_checked(hook, "table", [PAPER])) == [PAPER]
    with pytest.raises(TypeError, match="must return TableSpec objects, not DatasetSpec"):
        list(_checked(hook, "table", [DatasetSpec(name="d", summary="s", target="m:C")]))
    with pytest.raises(TypeError, match="must return a list of specs, not str"):
        list(_checked(hook, "table", "wfnet"))
    inked = replace(PAPER, paper=Paper(title="\x1b[2J", authors=("A",), year=1))
    with pytest.raises(ValueError, match="paper has a text with control characters"):
        list(_checked(hook, "table", [inked]))


def test_a_plugin_may_bring_a_table_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "only_a_table.py").write_text(
        "from unlearnbench.api import TableColumn, TableSpec, hookimpl\n"
        "UNLEARNBENCH_API = 1\n"
        "@hookimpl\n"
        "def unlearnbench_tables():\n"
        "    column = TableColumn(heading='f', measure='accuracy', reading='accuracy', split='forget')\n"
        "    return [TableSpec(name='lonely', summary='One column.', columns=(column,))]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))  # the kit asks a fresh process what the module imports
    specs, tables = _collect(__import__("only_a_table"))
    assert (specs, [table.name for table in tables]) == ((), ["lonely"])
    plugin = Plugin("lonely", "only_a_table", "lonely", "1", specs, tables)
    assert plugin.to_json()["components"] == ["table:lonely"]
    outcomes = [bound.outcome() for bound in checks_of_plugin(plugin, [*toy_registry().plugins, plugin])]
    assert {(o.kind, o.component, o.status) for o in outcomes} == {("table", "lonely", "passed")}
    assert "names-readings-that-exist" in {o.check for o in outcomes}


def test_a_table_that_two_plugins_bring_is_a_problem_and_neither_is_used() -> None:
    registry = Registry([Plugin(name, name, name, tables=(PAPER,)) for name in ("one", "two")])
    assert registry.tables() == []
    assert registry.problems() == ["table 'paper' is brought by one and two; none is used"]
    with pytest.raises(Exception, match="brought by one and two") as refusal:
        registry.table("paper")
    assert getattr(refusal.value, "code", "") == "duplicate-name"


def test_the_kit_refuses_columns_of_readings_that_the_measure_does_not_declare() -> None:
    readings = (ReadingSpec(name="p", better="gold"), ReadingSpec(name="ep*", better="gold"))
    probe = MeasureSpec(name="probe", summary="s", target="m:C", readings=readings)
    registry = Registry([Plugin("probe", "m", "probe", specs=(probe,), tables=(PAPER,))])
    names_readings_that_exist(TableBench(registry.table("paper"), registry))
    wrong = replace(PAPER, columns=(replace(PROBE, reading="q"),))
    with pytest.raises(Broken, match=r"p: probe declares p, ep\*, not q"):
        names_readings_that_exist(TableBench(BroughtTable(wrong, registry.plugins[0]), registry))
    elsewhere = Registry([Plugin("paper", "m", "paper", tables=(PAPER,))])
    with pytest.raises(NotApplicable, match="none of its measures is installed"):
        names_readings_that_exist(TableBench(elsewhere.table("paper"), elsewhere))


# -- the command line --------------------------------------------------------------------------------------------------


def test_an_unknown_table_is_one_line_with_the_documented_code(tmp_path: Path) -> None:
    done = call("report", tmp_path, "--table", "no-such-table")
    assert done.rc == 2
    assert_error(done.stderr.strip(), "unknown-table", "no table 'no-such-table'")
    assert call("show", "no-such-table", "--kind", "table").rc == 2


def test_a_page_of_figures_is_no_json(tmp_path: Path) -> None:
    done = call("report", tmp_path, "--json")
    assert done.rc == 2
    assert_error(done.stderr.strip(), "bad-output", "--table")


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the toys are found by their entry point, as an installed plugin is."""
    folder = tmp_path_factory.mktemp("tables")
    info = folder / "site" / "unlearnbench_toys-0.1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: unlearnbench-toys\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("[unlearnbench]\ntoys = unlearnbench_toys.plugin\n")
    return folder


def test_a_plugins_table_is_listed_filled_and_written_from_real_runs(toys: Path) -> None:
    env = {"PYTHONPATH": f"{toys / 'site'}:{TOYS}", "UNLEARNBENCH_PLUGINS": "toys,unlearnbench-baselines"}

    def run(*arguments: str) -> str:
        done = spawn(*arguments, cwd=toys, env=env)
        assert (done.rc, done.stderr) == (0, ""), done
        return done.stdout

    assert run("list", "tables").split()[:4] == ["toy-table", "Lovelace", "1843", "unlearnbench-toys"]
    shown = run("show", "toy-table", "--kind", "table")
    assert "Acc_f %  (accuracy: accuracy.forget, times 100)" in shown
    assert "retrained  (gold)" in shown
    plugins = json.loads(run("plugins", "--json"))["plugins"]
    assert "table:toy-table" in next(one["components"] for one in plugins if one["name"] == "toys")

    run(
        "run", "--dataset", "digits", "--model", "logistic", "-u", "finetune", "-u", "identity",
        "--forget", "class=0", "--forget", "class=1", "--seed", "0", "--seed", "1",
        "--measure", "accuracy", "--set", "recipe.epochs=3", "--quiet", "--no-tracking",
    )  # fmt: skip
    printed = run("report", "runs", "--table", "toy-table")
    assert printed.startswith("toy-table (Lovelace 1843) · digits / logistic · class: 2 requests · seeds 0, 1\n")
    assert "note: empty: seen; `--measure toy-shadows` would fill it\n" in printed
    rows = {line.split()[0]: line.split() for line in printed.splitlines() if "±" in line}
    assert list(rows) == ["retrained", "pre-trained", "finetune", "identity"]
    assert rows["retrained"][3:] == ["0.0", "±0.0", "4"]  # who never saw a class does not name it
    assert rows["identity"][1:] == rows["pre-trained"][1:]

    documents = [json.loads(path.read_text("utf-8")) for path in sorted(toys.glob("runs/*finetune*/record.json"))]
    forget = {
        (d["spec"]["requests"][0]["classes"][0], d["spec"]["seeds"]["train"]): reading["value"]
        for d in documents
        for reading in d["readings"]
        if (reading["key"], reading["subject"]) == ("accuracy.forget", "unlearned")
    }
    by_seed = [(forget["0", seed] + forget["1", seed]) / 2 for seed in (0, 1)]
    assert run("report", "runs", "--table", "toy-table", "-o", "t.csv") == "table  t.csv\n"
    found = pd.read_csv(toys / "t.csv").set_index("row")
    assert found.loc["finetune", "Acc_f %"] == pytest.approx(100 * sum(by_seed) / 2)
    assert found.loc["finetune", "Acc_f % sd"] == pytest.approx(100 * stdev(by_seed))
    assert sorted(path.name for path in toys.iterdir()) == ["runs", "site", "t.csv"]
