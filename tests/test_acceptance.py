"""What the first release promises, on real data: floors per seed, records that hold, results that repeat.

Every scenario runs once, through the command line, into a folder that the tests of this module share.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient
from support import COMMAND, call, environment

from unlearnbench.record import PREDICTIONS, Record, read_record

pytestmark = pytest.mark.acceptance

SEEDS = range(5)
UNLEARNERS = ("identity", "salun")
FIVE_SEEDS = [argument for seed in SEEDS for argument in ("--seed", str(seed))]
FASHION = (
    "--dataset", "fashion-mnist", "--set", "fashion-mnist.rows=10000", "--set", "fashion-mnist.test_rows=2000",
    "--model", "cnn",
    "--set", "recipe.optimizer=adam", "--set", "recipe.lr=0.001", "--set", "recipe.weight_decay=0.0",
    "--set", "recipe.batch_size=128", "--set", "recipe.epochs=2",
    "--unlearner", "salun", "--unlearner", "finetune", "--set", "salun.epochs=1", "--set", "finetune.epochs=1",
)  # fmt: skip

needs_data = pytest.mark.skipif(
    not os.environ.get("UNLEARNBENCH_DATA"), reason="UNLEARNBENCH_DATA names no folder with the real data"
)


@dataclass(frozen=True)
class Scenario:
    """The records of one invocation and the folder in which they lie."""

    out: Path
    records: dict[tuple[str, int], Record]

    def values(self, unlearner: str, key: str, subject: str = "unlearned") -> list[float]:
        """A reading per seed, in the order of the seeds."""
        found = [self.records[unlearner, seed].value(key, subject) for seed in SEEDS]
        assert None not in found
        return [float(value) for value in found if value is not None]


def scenario(out: Path, name: str, *unlearners: str) -> Scenario:
    chosen = [argument for unlearner in unlearners for argument in ("--unlearner", unlearner)]
    done = call("run", "--scenario", name, *chosen, *FIVE_SEEDS, "--out", out, "--json")
    assert done.rc == 0, done.stderr
    records = [read_record(out / document["id"]) for document in done.json()]
    found = {(record.unlearner, record.document["spec"]["seeds"]["train"]): record for record in records}
    assert set(found) == {(unlearner, seed) for unlearner in unlearners for seed in SEEDS}
    assert {record.status for record in records} == {"complete"}
    return Scenario(out, found)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that these tests write lies below."""
    return tmp_path_factory.mktemp("acceptance")


@pytest.fixture(scope="module")
def digits(folder: Path) -> Scenario:
    return scenario(folder / "digits", "digits-cnn-class3/v1", *UNLEARNERS)


@pytest.fixture(scope="module")
def location(folder: Path) -> Scenario:
    return scenario(folder / "location", "location30-mlp-random10/v1", "identity", "salun", "retrain")


# -- floors ------------------------------------------------------------------------------------------------------------


def others(record: Record, subject: str) -> float:
    """Accuracy in percent on the test rows of all classes that are kept, counted from the stored predictions."""
    with np.load(record.folder / PREDICTIONS) as arrays:
        y, guess = arrays["test/y"], arrays[f"test/{subject}"].argmax(1)
    assert 3 not in y
    assert len(y) == 323
    return 100 * float((y == guess).mean())


def test_digits_the_original_knows_the_class_and_gold_does_not(digits: Scenario) -> None:
    spec = digits.records["salun", 0].document["spec"]
    p = spec["unlearner"]["params"]
    recipe = (p["draw"], p["optimizer"], p["momentum"], p["lr"], p["epochs"], p["density"], p["batch_size"])
    assert recipe == ("wrong", "sgd", 0.9, 0.01, 10, 0.5, 32)
    assert (spec["recipe"]["optimizer"], spec["recipe"]["lr"], spec["recipe"]["epochs"]) == ("adam", 0.001, 30)
    assert min(digits.values("identity", "accuracy.forget")) >= 0.95
    assert digits.values("identity", "accuracy.forget") == digits.values("identity", "accuracy.forget", "original")
    assert digits.values("identity", "accuracy.forget", "gold") == [0.0] * 5


def test_digits_salun_forgets_the_class_on_each_seed(digits: Scenario) -> None:
    assert max(digits.values("salun", "accuracy.forget")) <= 0.05


def test_digits_salun_keeps_the_other_classes_as_gold_does(digits: Scenario) -> None:
    records = [digits.records["salun", seed] for seed in SEEDS]
    gaps = [others(record, "unlearned") - others(record, "gold") for record in records]
    assert max(abs(gap) for gap in gaps) <= 4, gaps
    assert abs(fmean(gaps)) <= 2, gaps
    for record in records:  # the reading is the same number
        assert others(record, "gold") == pytest.approx(100 * float(record.value("accuracy.test", "gold") or 0))


@needs_data
def test_location_salun_is_nearer_to_gold_than_doing_nothing_on_each_seed(location: Scenario) -> None:
    assert location.records["salun", 0].document["data"]["train"]["rows"] == 1500
    nothing, salun = (location.values(name, "average-gap") for name in ("identity", "salun"))
    assert min(nothing) > 20, "the original memorises, or the scenario tests nothing"
    ratios = [mine / most for mine, most in zip(salun, nothing, strict=True)]
    assert max(ratios) <= 0.6, ratios


@needs_data
def test_location_gold_is_as_near_to_another_gold_as_chance_allows(location: Scenario) -> None:
    gaps = location.values("retrain", "average-gap")
    assert max(gaps) <= 3, gaps
    assert min(gaps) > 0, "the other gold is another model"


# -- Fashion-MNIST -----------------------------------------------------------------------------------------------------


def fashion(out: Path, *requests: str) -> list[dict[str, Any]]:
    """The records of one call in a process of its own."""
    forget = [argument for request in requests for argument in ("--forget", request)]
    done = subprocess.run(
        [*COMMAND, "run", *FASHION, *forget, "--seed", "0", "--out", str(out), "--json"],
        env=environment(), cwd=out.parent, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    documents: list[dict[str, Any]] = json.loads(done.stdout)
    return documents


@needs_data
def test_fashion_mnist_forgets_a_class_and_random_rows(folder: Path) -> None:
    documents = fashion(folder / "fashion", "class=3", "random=0.1")
    assert [(d["status"], d["spec"]["unlearner"]["name"], d["requests"][0]["kind"]) for d in documents] == [
        ("complete", unlearner, kind) for kind in ("class", "samples") for unlearner in ("salun", "finetune")
    ]
    assert {(d["data"]["train"]["rows"], d["requests"][0]["forget"]) for d in documents} == {(10_000, 1000)}
    for document in documents:
        readings = {(r["subject"], r["key"]): r["value"] for r in document["readings"]}
        assert readings["original", "accuracy.test"] > 0.75
        if document["requests"][0]["kind"] == "class":
            assert readings["gold", "accuracy.forget"] == 0
            assert readings["unlearned", "accuracy.forget"] < 0.5 < readings["original", "accuracy.forget"]


# -- the same again ----------------------------------------------------------------------------------------------------

STABLE = ("data", "requests", "models", "predictions", "digest", "spec_id")


def fresh(out: Path, *more: str) -> Record:
    """One run of the default scenario in a process of its own."""
    done = subprocess.run(
        [*COMMAND, "run", "--unlearner", "salun", "--seed", "0", "--no-tracking", "--out", str(out), "--json", *more],
        env=environment(), cwd=out.parent, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (document,) = json.loads(done.stdout)
    return read_record(out / document["id"])


@pytest.fixture(scope="module")
def first(folder: Path) -> Record:
    return fresh(folder / "first")


def assert_same(one: Record, other: Record) -> None:
    for part in STABLE:
        assert one.document[part] == other.document[part], part
    went = [[{k: v for k, v in m.items() if k != "cpu_s"} for m in r.document["measures"]] for r in (one, other)]
    assert went[0] == went[1]
    timed = {m["name"] for m in one.document["measures"] if m["timed"]}
    assert timed == {"run-cost"}
    for part in ("readings", "controls"):
        kept = [[r for r in record.document[part] if r["measure"] not in timed] for record in (one, other)]
        assert len(kept[0]) > 10
        assert kept[0] == kept[1]
    assert (one.folder / PREDICTIONS).read_bytes() == (other.folder / PREDICTIONS).read_bytes()


def test_two_fresh_stores_give_the_same_weights_readings_and_digest(folder: Path, first: Record) -> None:
    assert_same(first, fresh(folder / "second"))
    shas = [model["sha256"] for models in first.document["models"].values() for model in models]
    assert len(set(shas)) == 3
    entries = (folder / "second" / "store").rglob("entry.json")
    assert {json.loads(path.read_text("utf-8"))["weights_sha256"] for path in entries} == set(shas)


def test_a_cache_hit_changes_nothing(folder: Path, first: Record) -> None:
    shutil.copytree(folder / "first" / "store", folder / "reused" / "store")
    again = fresh(folder / "reused")
    assert_same(first, again)
    assert again.document["costs"] == first.document["costs"]  # nothing was trained a second time


def test_each_seed_has_its_own_models_and_unlearners_share_them(digits: Scenario) -> None:
    for subject in ("original", "gold"):
        shas = {u: [digits.records[u, s].document["models"][subject][0]["sha256"] for s in SEEDS] for u in UNLEARNERS}
        assert shas["identity"] == shas["salun"]
        assert len(set(shas["salun"])) == 5


# -- what the records are good for -------------------------------------------------------------------------------------


def metrics(uri: str) -> dict[str, dict[str, float]]:
    """Metrics of every logged run, by the id of its record."""
    client = MlflowClient(uri)
    found: dict[str, dict[str, float]] = {}
    for experiment in client.search_experiments():
        for run in client.search_runs([experiment.experiment_id]):
            if "ub.run" in run.data.tags:
                assert run.data.tags["ub.run"] not in found
                found[run.data.tags["ub.run"]] = dict(run.data.metrics)
    return found


def test_a_log_rebuilt_twice_from_the_records_is_the_first_log(digits: Scenario, tmp_path: Path) -> None:
    logged = metrics(f"sqlite:///{digits.out}/mlflow.db")
    assert len(logged) == len(digits.records) == 10
    assert all(len(values) > 40 for values in logged.values())
    for name in ("one", "two"):
        uri = f"sqlite:///{tmp_path}/{name}.db"
        done = call("tracking", "sync", digits.out, "--uri", uri)
        assert done.rc == 0, done.stderr
        assert metrics(uri) == logged
    for record in digits.records.values():
        for subject in ("original", "gold", "unlearned"):
            shown = logged[record.document["id"]][f"{subject}/accuracy.accuracy.test"]
            assert shown == record.value("accuracy.test", subject)


def test_every_record_that_was_written_here_is_valid(
    request: pytest.FixtureRequest, folder: Path, digits: Scenario
) -> None:
    if os.environ.get("UNLEARNBENCH_DATA"):
        request.getfixturevalue("location")
    written = sorted(folder.glob("*/*/record.json"))
    assert len(written) >= len(digits.records)
    done = call("validate", folder, "--json")
    assert done.rc == 0
    assert sorted((r["path"], r["kind"], r["status"]) for r in done.json()) == [
        (str(path), "run-record", "ok") for path in written
    ]


def test_everything_that_was_stored_here_is_whole(folder: Path, digits: Scenario) -> None:
    stores = [path for path in folder.glob("*/store") if path.is_dir()]
    assert digits.out / "store" in stores
    for store in stores:
        assert call("store", "verify", "--store", store).rc == 0
