"""The plot of a run."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import pytest
from records import ACCURACY, ROWS, run_document, write

from unlearnbench.api.errors import DataError
from unlearnbench.record import Record
from unlearnbench.tracking.plots import accuracies, figure, run_plot


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return write(tmp_path, run_document())


def _heights(record: Record) -> list[float]:
    axes = figure(record.document, accuracies(record.document)).axes[0]
    return [bar.get_height() for bar in axes.patches]


def _texts(record: Record) -> list[str]:
    axes = figure(record.document, accuracies(record.document)).axes[0]
    return [text.get_text() for text in axes.texts]


def test_draws_every_subject_on_every_split(record: Record) -> None:
    wanted = [ACCURACY[subject][split] for split in ROWS for subject in ACCURACY]
    assert _heights(record) == pytest.approx(wanted)
    assert {f"{value:.3f}" for value in wanted} <= set(_texts(record))


def test_title_says_unlearner_scenario_and_seed(record: Record) -> None:
    path = run_plot(record, record.folder / "plot.svg")
    assert path is not None
    title = ET.parse(path).getroot().findtext("{http://www.w3.org/2000/svg}title")
    assert title == "salun - digits-cnn-class3/v1, seed 0"


def test_the_same_record_gives_the_same_bytes_whatever_the_readers_style(record: Record) -> None:
    first, second = record.folder / "a.svg", record.folder / "b.svg"
    run_plot(record, first)
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "black", "svg.hashsalt": "mine"}):
        run_plot(record, second)
        assert mpl.rcParams["font.size"] == 30
    assert first.read_bytes() == second.read_bytes()


def test_nothing_but_the_drawing_is_in_the_file(record: Record) -> None:
    path = run_plot(record, record.folder / "plot.svg")
    assert path is not None
    text = path.read_text("utf-8")
    assert "<script" not in text
    assert str(record.folder) not in text
    assert "dc:date" not in text
    assert "fill: #ffffff" in text  # a white ground of its own: legible on dark pages


def test_a_failed_run_has_no_plot(tmp_path: Path) -> None:
    record = write(tmp_path, run_document(status="failed"))
    assert run_plot(record, tmp_path / "plot.svg") is None
    assert not (tmp_path / "plot.svg").exists()


def test_a_value_that_does_not_exist_is_no_bar_of_height_zero(record: Record) -> None:
    readings = [
        {**r, "value": None, "status": "empty split"} if r["split"] == "retain" and r["subject"] == "unlearned" else r
        for r in record.readings
    ]
    assert "none" not in _texts(record)
    assert _texts(replace(record, document={**record.document, "readings": readings})).count("none") == 1


def test_a_stream_shows_the_last_request(tmp_path: Path) -> None:
    requests = [{"kind": "class", "classes": [name]} for name in "35"]
    record = write(tmp_path, run_document(requests=requests))
    wanted = [ACCURACY[subject][split] for split in ROWS for subject in ACCURACY]
    assert _heights(record) == pytest.approx(wanted)
    assert any("after 2 requests" in text for text in _texts(record))


def test_a_missing_split_is_left_out(record: Record) -> None:
    readings = [r for r in record.readings if r["split"] != "retain"]
    shown = replace(record, document={**record.document, "readings": readings})
    axes = figure(shown.document, accuracies(shown.document)).axes[0]
    assert [label.get_text().split("\n")[0] for label in axes.get_xticklabels()] == ["forget", "test"]


def test_names_with_markup_are_drawn_as_they_are(record: Record) -> None:
    spec = {**record.document["spec"], "scenario": "a $x_1$ <script>alert(1)</script> & --", "seeds": {
        "train": 0, "unlearn": 1, "measure": 0}}  # fmt: skip
    shown = replace(record, document={**record.document, "spec": spec})
    path = run_plot(shown, record.folder / "plot.svg")
    assert path is not None
    assert "<script" not in path.read_text("utf-8")
    title = ET.parse(path).getroot().findtext("{http://www.w3.org/2000/svg}title")
    assert title == "salun - a $x_1$ <script>alert(1)</script> & --, seed 0-1-0"


def test_a_folder_that_is_not_there_is_one_clear_line(record: Record, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file or directory") as caught:
        run_plot(record, tmp_path / "nowhere" / "plot.svg")
    assert caught.value.code == "cannot-write"


def test_pyplot_stays_out(tmp_path: Path) -> None:
    code = """
import sys, json
from pathlib import Path
from types import SimpleNamespace
from unlearnbench.tracking.plots import run_plot
document = json.loads(Path(sys.argv[1]).read_text())
run_plot(SimpleNamespace(document=document), Path(sys.argv[1]).with_name("plot.svg"))
assert "matplotlib" in sys.modules and "matplotlib.pyplot" not in sys.modules and "torch" not in sys.modules
"""
    record = write(tmp_path, run_document())
    subprocess.run([sys.executable, "-c", code, str(record.path)], check=True)
    assert (record.folder / "plot.svg").exists()
