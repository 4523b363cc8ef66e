"""Requests in a row: served by the command line, interrupted and resumed, shown, drawn, logged and reported."""

from __future__ import annotations

import itertools
import json
import math
import subprocess
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
from mlflow import MlflowClient
from records import run_document, write
from support import COMMAND, Done, assert_one_error, call, environment

from unlearnbench import records_to_frame
from unlearnbench.cli.stream_table import print_streams
from unlearnbench.phases import Phases
from unlearnbench.record import Record, find_records, read_record, verify_record
from unlearnbench.registry import registry
from unlearnbench.report import make_report
from unlearnbench.schemas import validate
from unlearnbench.spec import RunSpec
from unlearnbench.stages import Stages
from unlearnbench.store import Store
from unlearnbench.stream_rows import stream_rows, summary
from unlearnbench.tracking.entities import run_metrics, run_points
from unlearnbench.tracking.mlflow_sink import sync
from unlearnbench.tracking.stream_plot import stream_figure, stream_plot

QUICK = ("--set", "recipe.epochs=1", "--set", "salun.epochs=1", "--measure", "accuracy", "--measure", "run-cost")
TEN = (*QUICK, "-u", "salun", "--no-tracking")
COUNTED = ("--requests", "10x20", "--measure-every", "4")
MEASURED = [3, 7, 9]
MODELS = 1 + len(MEASURED) + 10
"""The original, gold models, and one after each request."""
WINE = ("--dataset", "wine", "--model", "logistic", "-u", "identity")


def the_record(out: Path) -> Record:
    (path,) = find_records(out)
    return read_record(path)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> tuple[Record, Done]:
    """Ten requests for 20 digits each, served by SalUn, and what the command said."""
    out = tmp_path_factory.mktemp("served") / "runs"
    done = call("run", *TEN, *COUNTED, "--out", out)
    assert done.rc == 0, done.stderr
    return the_record(out), done


# -- what is served ----------------------------------------------------------------------------------------------------


def test_the_original_is_trained_once_for_the_whole_stream(served: tuple[Record, Done]) -> None:
    record, done = served
    stored = Counter(phase for phase, _ in Store(record.folder.parent / "store").entries())
    assert stored == {"train": 1 + len(MEASURED), "unlearn": 10}
    assert f"1 run; models: {MODELS} stored for next time" in done.stdout


def test_each_request_is_drawn_from_what_those_before_left(served: tuple[Record, Done]) -> None:
    record, _ = served
    spec = RunSpec.from_json(record.document["spec"])
    stages = Stages(registry(), Store(record.folder.parent / "store"), Phases(registry()))
    gone: set[int] = set()
    for part in stages.scene(spec).parts:
        drawn = set(part.forget.view("forget").ids.tolist())
        assert len(drawn) == 20
        assert not drawn & gone
        gone |= drawn
        assert not gone & set(part.retain.view("retain").ids.tolist())
        assert set(part.measured["forget"].view("forget").ids.tolist()) <= gone
    assert [request["retain"] for request in record.document["requests"]] == [1437 - 20 * k for k in range(1, 11)]


def test_readings_are_taken_after_every_fourth_request_and_the_last(served: tuple[Record, Done]) -> None:
    record, _ = served
    assert sorted({int(reading["at"]["request"]) for reading in record.readings}) == MEASURED
    stream = record.document["stream"]
    assert [one["request"] for one in stream if one["gold"] is not None] == MEASURED
    assert all(one["cost"]["cpu_s"] > 0 for one in stream)
    assert len(record.document["models"]["gold"]) == len(MEASURED)
    assert len(record.document["models"]["unlearned"]) == 10
    verify_record(record)


def test_the_same_list_in_an_experiment_file_is_the_same_run(served: tuple[Record, Done], tmp_path: Path) -> None:
    record, _ = served
    listed = {"requests": record.document["spec"]["requests"], "measure_every": 4}
    experiment = tmp_path / "stream.yaml"
    experiment.write_text(json.dumps(listed), "utf-8")
    store = record.folder.parent / "store"
    done = call("run", experiment, *TEN, "--out", tmp_path / "runs", "--store", store)
    assert done.rc == 0, done.stderr
    assert "everything came from the store" in done.stdout
    again = the_record(tmp_path / "runs")
    assert (again.document["id"], again.document["digest"]) == (record.document["id"], record.document["digest"])


def test_a_stream_that_was_killed_goes_on_where_it_was(served: tuple[Record, Done], tmp_path: Path) -> None:
    out = tmp_path / "runs"
    arguments = ("run", *TEN, *COUNTED, "--out", str(out))
    command = subprocess.Popen([*COMMAND, *arguments], cwd=tmp_path, env=environment(), stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 90
        while len(kept := list((out / "store" / "unlearn").glob("*/[0-9a-f]*/entry.json"))) < 3:
            assert command.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline, "no sign of progress"
            time.sleep(0.01)
    finally:
        command.kill()
        command.wait()
    assert not find_records(out)
    before = {path: path.read_bytes() for path in kept}
    done = call(*arguments)
    assert done.rc == 0, done.stderr
    assert int(done.stdout.partition("models: ")[2].split()[0]) <= MODELS - 1 - len(kept)
    assert {path: path.read_bytes() for path in before} == before
    assert the_record(out).document["digest"] == served[0].document["digest"]


# -- files, and what is refused ----------------------------------------------------------------------------------------


def test_a_stream_may_stand_in_a_file_of_four_kinds(tmp_path: Path) -> None:
    requests = [{"kind": "samples", "ids": [row]} for row in (7, 5, 12)]
    texts = {
        "rows.yaml": "".join(f"- {{kind: samples, ids: [{row}]}}\n" for row in (7, 5, 12)),
        "rows.json": json.dumps(requests),
        "rows.csv": "7\n5\n12\n",
        "rows.txt": "7\n\n 5\n12",
    }
    found = set()
    for name, text in texts.items():
        (tmp_path / name).write_text(text, "utf-8")
        done = call("run", *WINE, "--requests", tmp_path / name, "--dry-run", "--json")
        assert done.rc == 0, done.stderr
        (plan,) = done.json()
        found.add(plan["id"])
    assert len(found) == 1
    done = call("run", *WINE, "--requests", tmp_path / "rows.csv", "--no-tracking", "--out", tmp_path / "runs")
    assert done.rc == 0, done.stderr
    record = the_record(tmp_path / "runs")
    assert record.document["id"] in found
    assert [request["ids"] for request in record.document["spec"]["requests"]] == [[7], [5], [12]]


CANNOT = "cannot be repeated"
BAD: dict[str, tuple[Sequence[str], int, str, str]] = {
    "no request at all": (("0x1",), 5, "missing-file", "0x1"),
    "half of COUNTxSIZE": (("3x",), 5, "missing-file", "3x"),
    "too many": (("100001x1",), 2, "bad-request", "too many"),
    "more rows than there are": (("30x100",), 5, "empty-retain-set", "asks for 100 of 42 rows"),
    "classes": (("3x1", "--forget", "class=1"), 2, "bad-request", CANNOT),
    "ids": (("3x1", "--forget", "ids=1,2"), 2, "bad-request", CANNOT),
    "several kinds": (("3x1", "--forget", "random=0.1", "--forget", "random=0.2"), 2, "bad-request", "exclude"),
    "a file that is not there": (("nowhere.csv",), 5, "missing-file", "No such file"),
    "a line of two numbers": (("two.csv",), 5, "bad-ids", "line 2"),
    "an empty file": (("empty.txt",), 5, "bad-ids", "has no line"),
    "an empty list": (("empty.json",), 2, "bad-request", "not a list of requests"),
    "another ending": (("stream.toml",), 2, "bad-file", "'.toml'"),
    "a row twice": (("twice.txt",), 5, "unknown-ids", "[7]"),
    "never measured": (("3x1", "--measure-every", "0"), 2, "usage", "measure-every"),
}
FILES = {"two.csv": "7\n3,4\n", "empty.txt": "\n", "empty.json": "[]", "stream.toml": "a = 1", "twice.txt": "7\n7\n"}


@pytest.mark.parametrize("what", BAD)
def test_what_cannot_be_served_is_refused_in_one_line(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments, rc, code, words = BAD[what]
    monkeypatch.chdir(tmp_path)
    for name, content in FILES.items():
        Path(name).write_text(content, "utf-8")
    done = call("run", *WINE, "--no-tracking", "--requests", *arguments)
    assert_one_error(done, rc, code, words)
    assert not find_records(tmp_path)


# -- a stream as the record of a certified method would have it --------------------------------------------------------

BUDGET = 0.5


def certified(requests: int, **changes: Any) -> dict[str, Any]:
    """A stream whose bound doubles until it passes the budget, when the method trains anew; measured every other."""
    document = run_document(requests=[{"kind": "edges", "count": 1}] * requests, **changes)
    bound, stream = 0.1, []
    for step, request in enumerate(document["requests"]):
        request["elements"] = 1
        bound, retrained = (2 * bound, False) if 2 * bound <= BUDGET else (0.1, True)
        cost = {"wall_s": 0.02, "cpu_s": 0.02, "peak_memory_mb": 1.0, "rows_read": {"forget": 2}}
        certificate = {"value": bound, "budget": BUDGET, "retrained": retrained}
        gold = {**cost, "cpu_s": 5.0} if step % 2 else None
        stream.append({"request": step, "cost": cost, "gold": gold, "certificate": certificate})
        document["readings"].append(residual(step, bound / 3))
    unmeasured = {str(step) for step in range(0, requests, 2)}
    document["readings"] = [r for r in document["readings"] if r["at"].get("request") not in unmeasured]
    document["stream"] = stream
    return document


def residual(step: int, value: float) -> dict[str, Any]:
    at = {"request": str(step)}
    return {
        "measure": "a-certificate", "subject": "unlearned", "key": f"true-residual.request={step}", "split": "",
        "name": "true-residual", "at": at, "value": value, "gap": None, "interval": None, "verdict": None, "n": 1,
        "better": "lower", "unit": "", "status": "ok",
    }  # fmt: skip


def shown(capsys: pytest.CaptureFixture[str], document: Mapping[str, Any]) -> list[str]:
    print_streams([Record(document, Path())])
    return capsys.readouterr().out.splitlines()


def test_the_records_of_these_tests_are_valid() -> None:
    validate(certified(4), "run-record")


def test_the_table_has_a_row_per_request_and_a_line_of_each_kind(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, certified(6))
    assert lines[0] == "stream of salun, seed 0: 6 requests"
    headings = "what test acc gold acc bound budget true residual retrained CPU s gold CPU s cheaper"
    assert " ".join(lines[2].split()) == headings
    rows = [" ".join(line.split()) for line in lines if " edges 1 " in line]
    assert [row[0] for row in rows] == ["0", "1", "2", "3", "4", "5"]
    assert rows[1] == "1 edges 1 0.926 0.941 0.4 0.5 0.133 - 0.02 5.00 250x"
    assert rows[2] == "2 edges 1 - - 0.1 0.5 - yes 0.02 - -"
    assert lines[-3:] == [
        "test accuracy 0.938 before, 0.966 after; largest change 2.76 points",
        "bound above the budget never in 6, retrained 2 times; true residual above the bound never in 3",
        "0.02 CPU s per request, 250x cheaper than retraining",
    ]


def test_columns_that_no_request_has_a_number_for_are_left_out(served: tuple[Record, Done]) -> None:
    _, done = served
    lines = done.stdout.splitlines()
    caption = next(place for place, line in enumerate(lines) if line.startswith("stream of salun, seed 0: 10 requests"))
    assert " ".join(lines[caption + 2].split()) == "what test acc gold acc CPU s gold CPU s cheaper"
    assert "samples 20" in lines[caption + 4]
    assert not [line for line in lines if "bound" in line]
    (said,) = [line for line in lines if line.startswith("test accuracy")]
    assert said == f"test accuracy {_test_accuracy(served[0], 'original'):.3f} before, " + said.partition("before, ")[2]
    assert f"{_test_accuracy(served[0], 'unlearned'):.3f} after" in said


def _test_accuracy(record: Record, subject: str) -> float:
    value = record.value("accuracy.test.request=9", subject)
    assert value is not None
    return value


def test_of_a_long_stream_first_last_retrains_and_evenly_spaced_requests_are_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    document = certified(100)
    for step, one in enumerate(document["stream"]):
        one["certificate"]["retrained"] = step in (40, 77)
    lines = shown(capsys, document)
    assert lines[0] == "stream of salun, seed 0: 100 requests, 88 of them not shown"
    found = [int(line.split()[0]) for line in lines if line.strip()[:1].isdigit() and "edges" in line]
    assert len(found) == 12
    assert found == sorted(found)
    assert {0, 40, 77, 99} <= set(found)
    assert all(step % 2 for step in found[1:] if step != 40)  # what was measured says more
    assert max(b - a for a, b in itertools.pairwise(found)) <= 20


def test_violations_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    document = certified(6)
    document["stream"][3]["certificate"]["value"] = 2 * BUDGET
    document["stream"][4]["certificate"]["value"] = 3 * BUDGET
    document["readings"].append(residual(4, 4 * BUDGET))
    line = shown(capsys, document)[-2]
    assert line == "bound above the budget 2 times in 6, retrained 2 times; true residual above the bound once in 4"


@pytest.mark.parametrize("odd", ["0.3", [0.3], {"a": 1}, True, None, math.nan, math.inf])
def test_of_a_strangers_certificate_only_numbers_are_read(odd: Any, tmp_path: Path) -> None:
    document = certified(4)
    for one in document["stream"]:
        one["certificate"] = {"value": odd, "budget": odd, "retrained": "yes"}
    rows = stream_rows(document)
    assert {(row.bound, row.budget, row.retrained) for row in rows} == {(None, None, False)}
    found = summary(rows)
    assert (found.certified, found.violations, found.retrains, found.compared) == (0, 0, 0, 0)
    assert stream_plot(Record(document, tmp_path), tmp_path / "stream.svg") is not None


def test_certificates_of_nothing_but_zeros_have_no_panel() -> None:
    """Rows without a certificate are counted against a budget of none, and a logarithm has no place for 0."""
    document = certified(4)
    document["readings"] = [reading for reading in document["readings"] if reading["name"] != "true-residual"]
    for one in document["stream"]:
        one["certificate"] = {"value": 0, "budget": 0}
    figure = stream_figure(document, stream_rows(document))
    assert "certificate" not in [axes.get_ylabel() for axes in figure.axes]


def test_a_record_of_one_request_has_no_stream(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    record = write(tmp_path, run_document())
    assert shown(capsys, record.document) == []
    assert stream_plot(record, tmp_path / "stream.svg") is None
    assert not (tmp_path / "stream.svg").exists()


# -- drawn, logged, reported -------------------------------------------------------------------------------------------


def test_the_plot_lies_beside_the_record_and_has_the_same_bytes_every_time(
    served: tuple[Record, Done], tmp_path: Path
) -> None:
    record, _ = served
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "black", "svg.hashsalt": "mine"}):
        stream_plot(record, tmp_path / "again.svg")
    assert (tmp_path / "again.svg").read_bytes() == (record.folder / "stream.svg").read_bytes()


def test_the_plot_has_a_panel_for_each_kind_of_number_that_there_is(served: tuple[Record, Done]) -> None:
    plain = served[0].document
    labels = [axes.get_ylabel() for axes in stream_figure(plain, stream_rows(plain)).axes]
    assert labels == ["accuracy on test", "accuracy on retain", "CPU seconds"]
    document = certified(6)
    panels = {axes.get_ylabel(): axes for axes in stream_figure(document, stream_rows(document)).axes}
    assert list(panels) == ["accuracy on test", "accuracy on retain", "certificate", "CPU seconds"]
    lines = {line.get_label(): line for line in panels["certificate"].get_lines()}
    assert list(lines["bound"].get_ydata()) == [0.2, 0.4, 0.1, 0.2, 0.4, 0.1]
    assert list(lines["true residual"].get_xdata()) == [1, 3, 5]
    assert panels["certificate"].get_yscale() == panels["CPU seconds"].get_yscale() == "log"
    upright = [line for line in panels["CPU seconds"].get_lines() if len(set(line.get_xdata())) == 1]
    assert [line.get_xdata()[0] for line in upright] == [2, 5]


def test_mlflow_has_one_curve_for_each_reading(served: tuple[Record, Done], tmp_path: Path) -> None:
    record, _ = served
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    sync([record], tmp_path, uri)
    client = MlflowClient(uri)
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    (child,) = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    history = client.get_metric_history(child.info.run_id, "unlearned/accuracy.accuracy.test")
    expected = [record.value(f"accuracy.test.request={step}") for step in MEASURED]
    assert [(point.step, point.value) for point in history] == list(zip(MEASURED, expected, strict=True))
    costs = client.get_metric_history(child.info.run_id, "stream/unlearn/cpu_s")
    assert [point.step for point in costs] == list(range(10))
    assert child.data.metrics == run_metrics(record)
    assert not [name for name in child.data.metrics if "request" in name]
    assert "stream.svg" in [found.path for found in client.list_artifacts(child.info.run_id)]


def test_a_run_that_is_no_stream_is_logged_without_steps(tmp_path: Path) -> None:
    record = write(tmp_path, run_document())
    assert {point.step for point in run_points(record)} == {0}
    assert run_metrics(record)["unlearned/accuracy.accuracy.test"] == record.value("accuracy.test")


def test_the_report_draws_a_stream_over_its_requests(tmp_path: Path) -> None:
    for seed in range(2):
        document = certified(20, seeds=(seed,) * 3, scenario="graph/v1")
        for one in document["stream"]:
            one["certificate"]["value"] *= 1 + seed
        write(tmp_path, document)
    records = [read_record(path) for path in find_records(tmp_path)]
    page = make_report(records)
    for title in ("Accuracy on test over the stream", "Certificate over the stream", "CPU seconds per request"):
        assert page.count(f"<h4>{title}</h4>") == 1
    assert "salun: bound 0.300 at request 0 and 0.600 at 19" in page  # the mean of 0.2 and 0.4
    assert "salun: true residual 0.133 at request 1" in page
    assert "gold 5.000 at request 1 and 5.000 at 19" in page
    assert page.count('<th scope="col">request ') == 10 + 12 + 12  # ten were measured, of the others twelve are enough
    assert "request=" not in page  # single requests are in the figures alone
    assert page == make_report(list(reversed(records)))


def test_a_page_without_streams_has_no_part_for_them(tmp_path: Path) -> None:
    assert "Over the stream" not in make_report([write(tmp_path, run_document())])


def test_compare_and_frames_read_streams_with_requests_that_were_not_measured(served: tuple[Record, Done]) -> None:
    record, _ = served
    done = call("compare", record.folder)
    assert (done.rc, done.stderr) == (0, "")
    assert "accuracy.forget (accuracy" in done.stdout
    assert call("compare", record.folder, "--reading", "accuracy.test.request=3").rc == 0
    assert_one_error(call("compare", record.folder, "--reading", "accuracy.test.request=0"), 2, "unknown-reading")
    frame = records_to_frame([record])
    mine = frame[(frame["key"].str.startswith("accuracy.test.request")) & (frame["subject"] == "unlearned")]
    assert sorted(mine["at.request"].astype(int)) == MEASURED
