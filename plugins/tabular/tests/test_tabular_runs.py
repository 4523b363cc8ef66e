"""From a data set to a table of results, through the command line in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import warm

from unlearnbench_tabular.mulan import Yeast
from unlearnbench_tabular.plugin import DrawParams

UNLEARNERS = ("--unlearner", "finetune", "--unlearner", "salun", "--unlearner", "retrain")


def call(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [warm.command(), *arguments], capture_output=True, text=True, check=False, timeout=300,
        cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )  # fmt: skip


def records(folder: Path, *arguments: str, root: Path) -> dict[str, Any]:
    """Run with three unlearners; the records by unlearner."""
    done = call(folder, "run", *arguments, *UNLEARNERS, "--json", UNLEARNBENCH_DATA=str(root))
    assert done.returncode == 0, done.stderr
    found = {record["spec"]["unlearner"]["name"]: record for record in json.loads(done.stdout)}
    assert set(found) == {"finetune", "salun", "retrain"}
    assert {record["status"] for record in found.values()} == {"complete"}
    return found


def reading(record: Mapping[str, Any], subject: str, split: str, name: str = "accuracy") -> float:
    (value,) = (
        r["value"]
        for r in record["readings"]
        if (r["subject"], r["split"], r["name"], r["at"]) == (subject, split, name, {})
    )
    return float(value)


def test_adult_runs_small_and_beats_the_majority(real_root: Path, tmp_path: Path) -> None:
    size = ("--set", "adult.train_rows=2000", "--set", "adult.test_rows=1000", "--set", "recipe.epochs=30")
    found = records(tmp_path, "--scenario", "adult-mlp-random5/v1", *size, root=real_root)
    for record in found.values():
        assert record["requests"][0]["forget"] == 100
        assert reading(record, "original", "test") > 0.764 + 0.04  # 764 of the 1,000 earn no more than 50K
        assert reading(record, "unlearned", "test") > 0.764 + 0.03
    assert set(found["salun"]["data"]["files"]) == {"adult/adult.data.gz", "adult/adult.test.gz"}


def test_everybody_of_a_group_is_forgotten(real_root: Path, tmp_path: Path) -> None:
    size = ("--set", "adult.train_rows=2000", "--set", "adult.test_rows=1000", "--set", "recipe.epochs=2")
    request = ("--forget", "group=race:Black")
    found = records(tmp_path, "--dataset", "adult", "--model", "mlp", *size, *request, root=real_root)
    request_record = found["finetune"]["requests"][0]
    assert request_record["kind"] == "group"
    assert 100 < request_record["forget"] < 300  # every tenth person, as in the whole of Adult


def test_yeast_forgets_some_of_what_it_memorised(real_root: Path, tmp_path: Path, real_job: Any) -> None:
    found = records(tmp_path, "--scenario", "yeast-mlp-random10/v1", root=real_root)
    data = Yeast(DrawParams()).load(real_job)
    majority = (data.train.y.mean(0) > 0.5).float().expand_as(data.test.y)
    for record in found.values():
        assert record["spec"]["scenario"] == "yeast-mlp-random10/v1"
        assert reading(record, "original", "test", "subset-accuracy") > 5 * float(
            (majority == data.test.y).all(1).float().mean()
        )
        assert reading(record, "original", "test", "macro-f1") > 0.35  # two labels of fourteen have a majority: 0.12
        assert reading(record, "original", "forget") > 0.99
        assert reading(record, "gold", "forget") < 0.85
    for name, most in (("finetune", 0.95), ("salun", 0.9), ("retrain", 0.85)):
        assert reading(found[name], "unlearned", "forget") < most
        assert reading(found[name], "unlearned", "retain") > 0.95
        assert reading(found[name], "unlearned", "test") > reading(found[name], "gold", "test") - 0.04


def test_emotions_run_with_the_measures_that_fit_its_task(real_root: Path, tmp_path: Path) -> None:
    recipe = ("--set", "recipe.epochs=40", "--set", "recipe.lr=0.003", "--set", "recipe.batch_size=32")
    found = records(tmp_path, "--dataset", "emotions", "--model", "mlp", *recipe, root=real_root)
    for record in found.values():
        assert [m["name"] for m in record["spec"]["measures"]] == ["accuracy", "run-cost"]
        # Each label alone holds for less than half of the rows: without any, 0.69 of the cells and no F1 are right.
        assert reading(record, "original", "test") > 0.74
        assert reading(record, "original", "test", "macro-f1") > 0.5
        assert reading(record, "unlearned", "test", "macro-f1") > 0.4


def test_a_request_that_labels_cannot_serve_is_refused_in_one_line(real_root: Path, tmp_path: Path) -> None:
    run = ("run", "--dataset", "yeast", "--model", "mlp", "--unlearner", "finetune")
    done = call(tmp_path, *run, "--forget", "class=Class1", UNLEARNBENCH_DATA=str(real_root))
    assert done.returncode in (2, 3)
    assert done.stderr.startswith("error: [")
    assert "one class per row" in done.stderr
    assert done.stderr.count("\n") == 1
    done = call(tmp_path, *run, "--measure", "ua-ra-ta-mia", UNLEARNBENCH_DATA=str(real_root))
    assert done.returncode == 3
    assert "measure ua-ra-ta-mia cannot handle the task 'multi-label'" in done.stderr


def test_a_table_of_ones_own_runs_and_bad_ones_end_with_exit_5(tmp_path: Path) -> None:
    lines = "".join(f"{i % 10},{'ab'[i % 2]},{i % 5},{'yes' if i % 10 > 4 else 'no'}\n" for i in range(200))
    (tmp_path / "t.csv").write_text("size,kind,person,ok\n" + lines, "utf-8")
    (tmp_path / "bad.csv").write_bytes(b"size,ok\n1,\xff\n2,no\n")
    table = ("--dataset", "table", "--model", "logistic", "--set", "table.file=t.csv", "--set", "table.label=ok")
    more = ("--set", 'table.groups=["person"]', "--set", "recipe.epochs=20", "--set", "recipe.lr=0.1")
    found = records(tmp_path, *table, *more, "--forget", "group=person:3", root=tmp_path)
    assert found["retrain"]["requests"][0]["forget"] > 20
    assert reading(found["retrain"], "original", "test") > 0.9
    for setting, message in (
        ("table.label=okay", "[missing-column] t.csv: no column 'okay'"),
        ("table.file=bad.csv", "[unreadable-file] bad.csv: is not utf-8"),
    ):
        done = call(
            tmp_path, "run", *table, "--set", setting, "--unlearner", "finetune", UNLEARNBENCH_DATA=str(tmp_path)
        )
        assert done.returncode == 5
        assert message in done.stderr
        assert done.stderr.count("\n") == 1


def test_without_the_plugin_the_scenario_names_it_and_the_listing_stays(tmp_path: Path) -> None:
    listed = call(tmp_path, "list", "scenarios", UNLEARNBENCH_PLUGINS="baselines")
    assert listed.returncode == 0
    assert "adult-mlp-random5/v1" in listed.stdout
    done = call(
        tmp_path, "run", "--scenario", "adult-mlp-random5/v1", "--unlearner", "finetune",
        UNLEARNBENCH_PLUGINS="baselines",
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == (
        "error: [unknown-dataset] $.dataset: no dataset 'adult'; adult-mlp-random5/v1 needs unlearnbench-tabular: "
        "pip install unlearnbench-tabular\n"
    )
