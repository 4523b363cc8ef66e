"""Heat maps of rows and classes: their numbers, what has no number, and where they stand on the page."""

from __future__ import annotations

import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
from records import SALUN, run_document, sha, write
from support import call
from test_report import assert_alone, load

from unlearnbench.api.runtime import Reading
from unlearnbench.comparison import grouped
from unlearnbench.record import Record, find_records, read_record, reading_json
from unlearnbench.report import make_report
from unlearnbench.report.heat_map_drawing import draw_heat_map
from unlearnbench.report.heat_maps import FanOut, HeatMap, heat_maps, merged
from unlearnbench.report.svg import SCALE
from unlearnbench.tracking.row_plot import MOST_CLASSES, cell_text, row_panels, rows_figure, rows_plot, scale, shade

FINETUNE = {"name": "finetune", "params": {}}
CLASSES = ("cat", "dog", "cow", "hen")
HOSTILE = '"><script>alert(1)</script>'


def by_row(
    values: Mapping[tuple[str, str], float | None], split: str = "test", subject: str = "unlearned", **more: str
) -> list[Reading]:
    return [
        Reading(
            "row-accuracy", value, 9, split=split, at={"row": row, "class": name, **more}, subject=subject,
            status="ok" if value is not None else "empty split",
        )
        for (row, name), value in values.items()
    ]  # fmt: skip


def square(names: Sequence[str], diagonal: float, elsewhere: float) -> dict[tuple[str, str], float | None]:
    return {(row, name): diagonal if row == name else elsewhere for row in names for name in names}


def forgetting(
    name: str,
    unlearned: Mapping[str, float | None],
    seed: int = 0,
    unlearner: Mapping[str, Any] = SALUN,
    gold: Mapping[str, float] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """The document of a run that forgets one class, with accuracies by class as the measure reads them."""
    found = run_document(
        unlearner=unlearner,
        seeds=(seed,) * 3,
        requests=[{"kind": "class", "classes": [name]}],
        scenario=None,
        **options,
    )
    found["requests"][0]["digest"] = sha(f"class {name}")
    readings = [r for r in found["readings"] if "class" not in r["at"]]
    kept = {"unlearned": unlearned, "original": dict.fromkeys(CLASSES, 0.99), "gold": gold or _gold(name)}
    for subject, values in kept.items():
        for split in ("forget", "test", "holdout"):
            for of_class, value in values.items():
                if (of_class == name) == (split != "test"):
                    reading = Reading("accuracy", value, 9, split=split, at={"class": of_class}, subject=subject)
                    readings.append(reading_json(reading, "accuracy", {}))
    return {**found, "readings": readings}


def _gold(forgotten: str) -> dict[str, float]:
    return {name: 0.0 if name == forgotten else 0.9 for name in CLASSES}


def fan_out(folder: Path, forgotten: Sequence[str] = CLASSES[:3], seeds: Sequence[int] = (0, 1)) -> Path:
    for seed in seeds:
        for place, name in enumerate(forgotten):
            kept = dict.fromkeys(CLASSES, 0.8 + 0.02 * place + 0.1 * seed)
            write(folder, forgetting(name, {**kept, name: 0.2 * seed}, seed))
    return folder


def maps_of(folder: Path) -> tuple[HeatMap, ...]:
    (group,) = heat_maps(grouped(load(folder))).by_group
    return group


def only_fan_out(folder: Path) -> FanOut:
    (found,) = heat_maps(grouped(load(folder))).fan_outs
    return found


# -- readings with a row and a class -----------------------------------------------------------------------------------


def test_the_table_has_the_numbers_of_the_readings_averaged_over_seeds(tmp_path: Path) -> None:
    for seed, low in enumerate((0.0, 0.3)):
        values = {("a", "a"): low, ("a", "b"): 0.8, ("b", "a"): 0.7 + low, ("b", "b"): 0.1}
        write(tmp_path, run_document(seeds=(seed,) * 3, extra=by_row(values)))
    (found,) = maps_of(tmp_path)
    drawing = draw_heat_map(found, "f1")
    assert drawing.columns == ("row", "a", "b", "mean of the others")
    assert drawing.rows == (("a", "0.150", "0.800", "0.800"), ("b", "0.850", "0.100", "0.850"))
    assert drawing.title == "probe: row-accuracy on test, salun"
    assert "mean over 2 training seeds" in drawing.caption
    assert drawing.caption.count(".") == 1


def test_seeds_of_unlearning_are_averaged_within_their_training_seed(tmp_path: Path) -> None:
    for seeds, value in (((0, 0, 0), 0.0), ((0, 1, 0), 0.2), ((1, 0, 0), 0.9)):
        write(tmp_path, run_document(seeds=seeds, extra=by_row({("a", "a"): value, ("a", "b"): 1.0})))
    (found,) = maps_of(tmp_path)
    assert found.values["a", "a"] == pytest.approx((0.1 + 0.9) / 2)
    assert found.seeds == (2,)


def test_splits_subjects_and_unlearners_have_a_figure_each_and_gold_comes_first(tmp_path: Path) -> None:
    values = square("ab", 0.1, 0.9)
    extra = [r for s in ("unlearned", "gold") for split in ("train-like", "test") for r in by_row(values, split, s)]
    for unlearner in (SALUN, FINETUNE):
        write(tmp_path, run_document(unlearner=unlearner, extra=extra))
    assert [found.title for found in maps_of(tmp_path)] == [
        f"probe: row-accuracy on {split}, {label}"
        for split in ("train-like", "test")
        for label in ("gold", "finetune", "salun")
    ]


def test_of_a_stream_the_matrix_after_the_last_request_is_drawn(tmp_path: Path) -> None:
    requests = [{"kind": "class", "classes": [name]} for name in "35"]
    first, last = (by_row(square("ab", low, 0.9), request=str(step)) for step, low in enumerate((0.4, 0.1)))
    record = write(tmp_path, run_document(requests=requests, extra=[*first, *last]))
    (found,) = maps_of(tmp_path)
    assert found.forgotten == (0.1, 0.1)
    (panel,) = row_panels(record.document)
    assert panel.values["a", "a"] == 0.1


def test_a_cell_without_value_is_never_zero(tmp_path: Path) -> None:
    values: dict[tuple[str, str], float | None] = {("a", "a"): 0.1, ("a", "b"): None, ("b", "b"): 0.2}
    write(tmp_path, run_document(extra=by_row(values)))
    (found,) = maps_of(tmp_path)
    drawing = draw_heat_map(found, "f1")
    assert drawing.rows == (("a", "0.100", "none", "none"), ("b", "none", "0.200", "none"))
    assert "A stroke stands where there is no value." in drawing.caption
    assert sorted(_numbers_in_cells(drawing.svg)) == [".10", ".20"]


def _numbers_in_cells(svg: str) -> list[str]:
    texts = [element.text or "" for element in ET.fromstring(svg).iter("text")]
    return [text for text in texts if re.fullmatch(r"\.\d\d", text)]


def test_cells_get_the_shade_of_their_value(tmp_path: Path) -> None:
    values = {("a", "a"): 0.04, ("a", "b"): 0.55, ("b", "a"): 1.0, ("b", "b"): 0.04}
    write(tmp_path, run_document(extra=by_row(values)))
    (found,) = maps_of(tmp_path)
    paths = [path.attrib for path in ET.fromstring(draw_heat_map(found, "f1").svg).iter("path")]
    fills = [path.get("fill", "") for path in paths]
    squares = {fill: path["d"].count("M") for fill, path in zip(fills[::-1], paths[::-1], strict=True) if "--h" in fill}
    assert [fills.count(f"var(--{name})") for name in SCALE] == [2, 1, 1, 1, 1, 2, 1, 1, 1, 2]  # the legend has each
    assert (squares["var(--h0)"], squares["var(--h5)"], squares["var(--h9)"]) == (2, 1, 1)


def test_more_classes_than_can_be_seen_are_cut_and_said(tmp_path: Path) -> None:
    names = [f"kind {place}" for place in range(MOST_CLASSES + 2)]
    values = square(names, 0.1, 0.9) | {(names[-1], names[-1]): 0.1 + 0.42}
    write(tmp_path, run_document(extra=by_row(values)))
    (found,) = maps_of(tmp_path)
    drawing = draw_heat_map(found, "f1")
    assert len(drawing.rows) == MOST_CLASSES
    assert {len(row) for row in drawing.rows} == {MOST_CLASSES + 2}
    assert "The first 40 of 42 classes are drawn." in drawing.caption
    assert "the mean is 0.110 on the diagonal and 0.900 elsewhere" in drawing.caption
    assert not _numbers_in_cells(drawing.svg)


def test_no_text_is_too_small_to_read(tmp_path: Path) -> None:
    write(tmp_path, run_document(extra=by_row(square([f"class number {place}" for place in range(12)], 0.1, 0.9))))
    (found,) = maps_of(tmp_path)
    svg = draw_heat_map(found, "f1").svg
    sizes = [float(size) for size in re.findall(r"(?:font-size=\"|font: ?)([\d.]+)px", svg)]
    assert len(sizes) > 144
    assert min(sizes) >= 9
    assert len(_numbers_in_cells(svg)) == 144


def test_rows_that_hide_no_class_have_no_diagonal(tmp_path: Path) -> None:
    write(tmp_path, run_document(extra=by_row({("left", "a"): 0.1, ("right", "a"): 0.2})))
    (found,) = maps_of(tmp_path)
    assert found.forgotten == ()
    assert "diagonal" not in draw_heat_map(found, "f1").caption


def test_values_beyond_shares_have_a_scale_of_their_own() -> None:
    assert scale([0.2, 0.4]) == (0.0, 1.0)
    assert scale([-1.0, 3.0]) == (-1.0, 3.0)
    assert scale([7.0]) == (7.0, 8.0)
    assert [shade(value, (-1.0, 3.0)) for value in (-1.0, 1.0, 3.0)] == [0, 5, 9]
    assert [cell_text(value) for value in (0.0, 0.004, 0.5, 0.996, 1.0, -0.25, 12.34)] == [
        "0", "0", ".50", "1", "1", "-.25", "12.3"
    ]  # fmt: skip


# -- one class forgotten at a time -------------------------------------------------------------------------------------


def test_three_forgotten_classes_make_the_matrix_of_gold_and_of_the_unlearner(tmp_path: Path) -> None:
    found = only_fan_out(fan_out(tmp_path))
    assert found.title == "digits / cnn"
    gold, salun = found.maps
    assert (gold.label, salun.label) == ("gold", "salun")
    assert (salun.rows, salun.classes) == (CLASSES[:3], CLASSES)
    assert gold.values == {(row, name): 0.0 if row == name else 0.9 for row in CLASSES[:3] for name in CLASSES}
    drawing = draw_heat_map(salun, "f1")
    assert drawing.columns == ("forgotten class", *CLASSES, "mean of the others")
    assert drawing.rows == (  # means over seeds: kept 0.8 + 0.02 * place and 0.1 more, forgotten 0 and 0.2
        ("cat", "0.100", "0.850", "0.850", "0.850", "0.850"),
        ("dog", "0.870", "0.100", "0.870", "0.870", "0.870"),
        ("cow", "0.890", "0.890", "0.100", "0.890", "0.890"),
    )
    assert "mean over 2 training seeds" in drawing.caption


def test_two_forgotten_classes_or_two_of_an_unlearner_make_no_matrix_of_it(tmp_path: Path) -> None:
    fan_out(tmp_path, CLASSES[:2])
    assert heat_maps(grouped(load(tmp_path))).fan_outs == ()
    write(tmp_path, forgetting("cow", dict.fromkeys(CLASSES, 0.5), unlearner=FINETUNE))
    assert [each.label for each in only_fan_out(tmp_path).maps] == ["gold"]


def test_settings_of_one_unlearner_are_not_mixed_and_neither_are_recipes(tmp_path: Path) -> None:
    for name in CLASSES[:3]:
        for density in (0.1, 0.5):
            method = {"name": "salun", "params": {"density": density}}
            write(tmp_path, forgetting(name, dict.fromkeys(CLASSES, density), unlearner=method))
    by_label = {each.label: set(each.values.values()) for each in only_fan_out(tmp_path).maps[1:]}
    assert by_label == {"salun (density=0.1)": {0.1}, "salun (density=0.5)": {0.5}}
    for place, record in enumerate(load(tmp_path)):
        document = {**record.document, "spec": {**record.document["spec"], "recipe": {"epochs": place}}}
        shutil.rmtree(record.folder)
        write(tmp_path, document)
    assert heat_maps(grouped(load(tmp_path))).fan_outs == ()


def test_what_the_hold_out_has_no_rows_of_is_an_open_cell(tmp_path: Path) -> None:
    for name in CLASSES[:3]:
        write(tmp_path, forgetting(name, {**dict.fromkeys(CLASSES, 0.8), name: None}))
    salun = only_fan_out(tmp_path).maps[1]
    assert salun.forgotten == ()
    assert [row[1 + place] for place, row in enumerate(draw_heat_map(salun, "f1").rows)] == ["none"] * 3


def test_a_class_that_is_requested_by_its_position_has_the_name_of_its_readings(tmp_path: Path) -> None:
    for place, name in enumerate(CLASSES[:3]):
        document = forgetting(name, dict.fromkeys(CLASSES, 0.8))
        document["spec"]["requests"] = [{"kind": "class", "classes": [place]}]
        write(tmp_path, document)
    assert only_fan_out(tmp_path).maps[1].rows == CLASSES[:3]


def test_requests_for_several_classes_and_streams_are_no_fan_out(tmp_path: Path) -> None:
    for name in CLASSES[:3]:
        document = forgetting(name, dict.fromkeys(CLASSES, 0.8))
        document["spec"]["requests"][0]["classes"].append("hen")
        write(tmp_path, document)
    for pair in ("34", "35", "36"):
        requests = [{"kind": "class", "classes": [name]} for name in pair]
        write(tmp_path, run_document(unlearner=FINETUNE, requests=requests))
    assert heat_maps(grouped(load(tmp_path))).fan_outs == ()


def test_orders_that_each_lack_a_name_make_one() -> None:
    assert merged([["b", "c", "d"], ["a", "c", "d"], ["a", "b", "d"]]) == ["a", "b", "c", "d"]
    assert merged([["a", "b"], ["a", "c"], []]) == ["a", "b", "c"]
    assert merged([["b", "a"], ["a", "b"], ["c"]]) == ["c", "b", "a"]


# -- the page ----------------------------------------------------------------------------------------------------------


def test_the_page_shows_the_matrices_once_above_the_scenarios(tmp_path: Path) -> None:
    page = assert_alone(make_report(load(fan_out(tmp_path))))
    sections = page.root.all("section")
    assert [e.attributes["href"] for e in page.root.all("a")] == [f"#{e.attributes['id']}" for e in sections]
    assert [e.text for e in page.root.all("h3") if e.text.startswith("Rows")] == ["Rows and classes, digits / cnn"]
    assert [e.text for e in sections[0].all("h4")] == [
        f"Accuracy by forgotten class, {label}" for label in ("gold", "salun")
    ]
    for figure in sections[0].all("figure"):
        assert figure.all("svg")[0].all("desc")[0].text.endswith("elsewhere.")
        assert len(figure.all("tr")) == 4


def test_rows_and_classes_are_a_part_of_their_scenario_and_stay_out_of_the_table(tmp_path: Path) -> None:
    rows = [Reading("hidden", 0.5, 9, at={"row": "a"}, subject="unlearned")]
    write(tmp_path, run_document(extra=[*by_row(square("ab", 0.1, 0.9)), *rows]))
    text = make_report(load(tmp_path))
    page = assert_alone(text)
    assert "Rows and classes" in [e.text for e in page.root.all("h3")]
    assert "row=" not in text
    assert not page.root.all("nav")


def test_without_such_readings_the_page_has_no_such_part(tmp_path: Path) -> None:
    write(tmp_path, run_document())
    assert "Rows and classes" not in make_report(load(tmp_path))


def test_the_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    records = load(fan_out(tmp_path))
    write(tmp_path, run_document(extra=by_row(square("ab", 0.1, 0.9))))
    records = load(tmp_path)
    made = make_report(records)
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "black", "hatch.color": "red"}):
        assert make_report(records[::-1]) == made


def test_names_of_classes_stay_text(tmp_path: Path) -> None:
    names = [f"{HOSTILE}{place}" for place in range(3)]
    write(tmp_path, run_document(extra=by_row(square(names, 0.1, 0.9))))
    for name in names:
        write(tmp_path, forgetting(name, dict.fromkeys(names, 0.5), gold=dict.fromkeys(names, 0.5)))
    text = make_report(load(tmp_path))
    page = assert_alone(text)
    assert "<script" not in text
    assert names[0] in [e.text for e in page.root.all("th")]
    assert len([e for e in page.root.all("text") if e.text.startswith('"><script')]) >= 12


# -- the plot beside a record ------------------------------------------------------------------------------------------


def test_the_plot_of_a_run_has_a_panel_for_each_split_of_the_unlearned_model(tmp_path: Path) -> None:
    values: dict[tuple[str, str], float | None] = {**square("abc", 0.25, 0.75), ("a", "c"): None}
    extra = [r for split in ("train-like", "test") for r in by_row(values, split)]
    extra += by_row(square("abc", 0.5, 0.5), subject="gold")
    record = write(tmp_path, run_document(extra=extra))
    panels = row_panels(record.document)
    axes = rows_figure(record.document, panels).axes
    assert [one.get_title(loc="left") for one in axes[:2]] == [
        f"row-accuracy on {split} (hatched: no value)" for split in ("train-like", "test")
    ]
    texts = [text.get_text() for text in axes[0].texts]
    assert (texts.count(".25"), texts.count(".75"), len(texts)) == (3, 5, 8)
    assert axes[0].collections[0].get_array().mask.sum() == 1  # what has no value has no colour


def test_the_plot_has_the_same_bytes_every_time_and_holds_no_script(tmp_path: Path) -> None:
    record = write(tmp_path, run_document(extra=by_row(square([HOSTILE, "$x_1$"], 0.1, 0.9))))
    first, second = (tmp_path / name for name in ("a.svg", "b.svg"))
    assert rows_plot(record, first) == first
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "black", "hatch.color": "red"}):
        rows_plot(record, second)
    assert first.read_bytes() == second.read_bytes()
    assert "<script" not in first.read_text("utf-8")
    assert ET.parse(first).getroot().tag.endswith("svg")


@pytest.mark.parametrize("extra", [[], by_row({("a", "a"): None}), by_row({("a", "a"): 0.5}, subject="gold")])
def test_a_run_without_such_readings_has_no_such_plot(extra: list[Reading], tmp_path: Path) -> None:
    record: Record = write(tmp_path, run_document(extra=extra))
    assert rows_plot(record, tmp_path / "rows.svg") is None
    assert not (tmp_path / "rows.svg").exists()


# -- from the command line ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of digits, each forgotten in a run of its own, and the report of the three runs."""
    folder = tmp_path_factory.mktemp("digits")
    done = call(
        "run", "--dataset", "digits", "--model", "logistic", "--forget", "class=0", "--forget", "class=1",
        "--forget", "class=2", "--unlearner", "finetune", "--set", "recipe.epochs=2", "--set", "finetune.epochs=1",
        "--measure", "accuracy", "--quiet", "--no-tracking", "--out", folder / "runs",
    )  # fmt: skip
    assert (done.rc, done.stderr) == (0, "")
    done = call("report", folder / "runs", "-o", folder / "page.html")
    assert (done.rc, done.stderr) == (0, "")
    return folder


def test_real_runs_of_three_classes_make_the_matrices(digits: Path) -> None:
    gold, finetune = only_fan_out(digits / "runs").maps
    assert (gold.rows, gold.classes) == (("0", "1", "2"), tuple("0123456789"))
    assert gold.forgotten == (0.0, 0.0, 0.0)  # a class that was never seen is never named
    assert len(finetune.values) == 30
    by_class = {
        read.document["spec"]["requests"][0]["classes"][0]: read
        for read in map(read_record, find_records(digits / "runs"))
    }
    for name, record in by_class.items():
        assert finetune.values[name, name] == record.value(f"accuracy.holdout.class={name}")
        assert finetune.values[name, "7"] == record.value("accuracy.test.class=7")
    assert not list(digits.rglob("rows.svg"))


def test_a_browser_draws_the_matrices_in_light_and_dark(digits: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no chromium on the path")
    images = []
    for scheme in ("1", "0"):
        image = digits / f"{scheme}.png"
        subprocess.run(
            [chromium, "--headless", "--no-sandbox", f"--blink-settings=preferredColorScheme={scheme}",
             f"--screenshot={image}", "--window-size=1000,1000", (digits / "page.html").as_uri()],
            check=True, capture_output=True, timeout=120,
        )  # fmt: skip
        images.append(mpl.image.imread(image))
    shades = [{tuple(pixel) for pixel in (image[..., :3].reshape(-1, 3) * 255).round().astype(int)} for image in images]
    assert (0xE0, 0xED, 0xFF) in shades[0] - shades[1]  # what is lowest in the light, and in the dark
    assert (0x00, 0x1C, 0x40) in shades[1] - shades[0]


def test_a_real_run_with_rows_has_their_plot_beside_its_record_and_in_the_report(tmp_path: Path) -> None:
    done = call(
        "run", "--dataset", "digits", "--model", "cnn", "--forget", "class=3", "--unlearner", "wfnet",
        "--set", "wfnet.epochs=1", "--set", "recipe.epochs=1", "--measure", "wfnet-rows", "--quiet", "--no-tracking",
        "--out", tmp_path,
    )  # fmt: skip
    assert (done.rc, done.stderr) == (0, "")
    (record,) = load(tmp_path)
    assert ET.parse(record.folder / "rows.svg").getroot().tag.endswith("svg")
    found = maps_of(tmp_path)[0]
    assert (found.rows, found.classes) == (tuple("0123456789"),) * 2
    assert found.values["3", "5"] == record.value(f"{found.what}.class=5.row=3")
