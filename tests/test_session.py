"""An invocation: records come first; plots and logs that fail are reported and cost nothing."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from unlearnbench import run
from unlearnbench.api import Interrupted, UsageError
from unlearnbench.config import resolve_experiment
from unlearnbench.phases import no_progress
from unlearnbench.record import read_record, verify_record
from unlearnbench.registry import registry
from unlearnbench.session import PLOT, carry_out
from unlearnbench.spec import RunSpec


def wine(*unlearners: str, seeds: tuple[int, ...] = (0,)) -> list[RunSpec]:
    experiment = {"dataset": "wine", "model": "logistic", "unlearners": list(unlearners), "seeds": list(seeds)}
    return resolve_experiment(experiment, registry())


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the models of these tests, so that they are trained once."""
    folder = tmp_path_factory.mktemp("session")
    outcome = carry_out(wine("identity", seeds=(0, 1)), out=folder / "runs", store=folder / "store", tracking=False)
    assert not outcome.problems
    return folder / "store"


def test_records_come_in_order_with_a_plot_beside_each(store: Path, tmp_path: Path) -> None:
    events: list[str] = []
    outcome = carry_out(
        wine("identity", seeds=(1, 0)), out=tmp_path, store=store, tracking=False, on_event=events.append
    )
    assert [r.document["spec"]["seeds"]["train"] for r in outcome.records] == [1, 0]
    assert {r.document["invocation"] for r in outcome.records} == {outcome.invocation}
    assert outcome.computed == []
    assert events == []
    for record in outcome.records:
        assert (record.folder / PLOT).read_text("utf-8").lstrip().startswith("<?xml")
    assert not (tmp_path / "mlflow.db").exists()


def test_tracking_that_fails_is_a_problem_and_costs_no_record(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    outcome = carry_out(wine("identity", seeds=(0, 1)), out=tmp_path, store=store)
    (problem,) = outcome.problems
    assert (problem.code, problem.exit_code, problem.where) == ("tracking-failed", 1, "http://127.0.0.1:9")
    assert len(outcome.records) == 2
    for record in outcome.records:
        verify_record(read_record(record.path))
        assert record.status == "complete"


def test_a_plot_that_cannot_be_written_is_a_problem_and_costs_no_record(store: Path, tmp_path: Path) -> None:
    (spec,) = wine("identity")
    (tmp_path / spec.run_id() / PLOT).mkdir(parents=True)
    outcome = carry_out([spec], out=tmp_path, store=store, tracking=False)
    (problem,) = outcome.problems
    assert str(tmp_path / spec.run_id()) in str(problem)
    verify_record(read_record(outcome.records[0].path))


def test_a_damaged_entry_is_an_event(store: Path, tmp_path: Path) -> None:
    (first,) = carry_out(wine("identity"), out=tmp_path, store=tmp_path / "store", tracking=False).records
    key = first.document["models"]["gold"][0]["key"]
    (tmp_path / "store" / "train" / key[:2] / key / "model.safetensors").write_bytes(b"")
    events: list[str] = []
    outcome = carry_out(
        wine("identity"), out=tmp_path, store=tmp_path / "store", tracking=False, on_event=events.append
    )
    assert outcome.computed == ["train"]
    (event,) = events
    assert key[:12] in event
    assert list(outcome.records[0].document["events"]) == events
    assert outcome.records[0].document["digest"] == first.document["digest"]


def test_finished_records_are_logged_also_when_the_rest_is_interrupted(store: Path, tmp_path: Path) -> None:
    """The second seed has to train; whoever watches its progress presses Ctrl-C."""
    from mlflow import MlflowClient

    def ctrl_c(label: str, total: int) -> object:
        if "seed 7" in label:
            raise KeyboardInterrupt
        return no_progress(label, total)

    with pytest.raises(Interrupted, match="1 of 2 runs are finished"):
        carry_out(wine("identity", seeds=(0, 7)), out=tmp_path, store=store, progress=ctrl_c)
    (path,) = tmp_path.glob("*/record.json")
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    (experiment,) = [e for e in client.search_experiments() if e.name != "Default"]
    logged = [r.data.tags.get("ub.record_digest") for r in client.search_runs([experiment.experiment_id])]
    assert read_record(path).document["digest"] in logged


@pytest.mark.parametrize("budget", [0, -1, math.inf, math.nan])
def test_a_budget_that_is_no_time_is_refused(store: Path, tmp_path: Path, budget: float) -> None:
    with pytest.raises(UsageError) as caught:
        carry_out(wine("identity"), out=tmp_path / "runs", store=store, budget_s=budget)
    assert caught.value.code == "bad-budget"
    assert not (tmp_path / "runs").exists()


def test_what_is_passed_wins_over_the_experiment(store: Path, tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(
        "dataset: digits\nmodel: cnn\nunlearners: [salun]\nseeds: [3]\nforget: [{kind: class, classes: [3]}]"
    )
    (record,) = run(
        "identity", experiment=file, dataset="wine", model="logistic", seed=0,
        forget={"kind": "samples", "fraction": 0.1}, out=tmp_path / "runs", store=store,
    )  # fmt: skip
    spec = record.document["spec"]
    assert (spec["dataset"]["name"], spec["unlearner"]["name"], spec["seeds"]["train"]) == ("wine", "identity", 0)
    assert spec["requests"] == [{"kind": "samples", "fraction": 0.1, "seed": 0, "stratified": False}]
    (same,) = run("identity", dataset="wine", model="logistic", out=tmp_path / "again", store=store)
    assert record.document["digest"] == same.document["digest"]


def test_a_stream_and_a_fan_out_from_python(store: Path, tmp_path: Path) -> None:
    one, two = {"kind": "samples", "ids": [1, 2]}, {"kind": "samples", "ids": [4]}
    fan = run("identity", dataset="wine", model="logistic", forget=[one, two], out=tmp_path / "fan", store=store)
    (stream,) = run(
        "identity", dataset="wine", model="logistic", requests=[one, two], out=tmp_path / "stream", store=store
    )
    assert [[r["forget"] for r in record.document["requests"]] for record in fan] == [[2], [1]]
    assert [(r["forget"], r["retain"]) for r in stream.document["requests"]] == [(2, 140), (1, 139)]


def test_in_python_what_fails_beside_a_record_is_a_warning(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.warns(RuntimeWarning, match="tracking-failed"):
        (record,) = run("identity", dataset="wine", model="logistic", out=tmp_path, store=store, tracking=True)
    assert record.status == "complete"


def test_the_number_of_threads_comes_from_the_spec_and_not_from_the_machine(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    digests = set()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            (record,) = run("identity", parameters={"recipe.epochs": 1}, out=tmp_path / str(threads))
            assert torch.get_num_threads() == threads
            assert record.document["environment"]["threads"] == record.document["spec"]["threads"] == 1
            digests.add(record.document["digest"])
    finally:
        torch.set_num_threads(before)
    assert len(digests) == 1
    (record,) = run("identity", parameters={"recipe.epochs": 1}, threads=2, out=tmp_path / "two")
    assert record.document["environment"]["threads"] == 2
