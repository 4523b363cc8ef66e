"""All installed measures together: each model predicts each split once, and no measure leaves a trace.

Ensembles are of the smallest size; what is asked here is how measures use what the host gives, not what they read.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from support import call, tree
from torch import Tensor, nn

from unlearnbench import predictions
from unlearnbench.api.runtime import Subject, Task, View, predict, tensors_digest
from unlearnbench.api.specs import MeasureSpec
from unlearnbench.config import resolve_experiment
from unlearnbench.evidence import RunEvidence
from unlearnbench.phases import Phases
from unlearnbench.record import Record, verify_record
from unlearnbench.registry import registry
from unlearnbench.runner import run_one
from unlearnbench.spec import RunSpec
from unlearnbench.stages import Stages
from unlearnbench.store import Store

SMALL = {
    "recipe.epochs": 2, "recipe.batch_size": 64, "salun.epochs": 1, "salun.batch_size": 64, "klom.n": 2, "klom.bins": 3,
    "forgetting-score.n": 3, "u-lira.shadows": 6, "u-lira.bootstrap_draws": 100, "u-lira.permutations": 20,
    "vulnerable-samples.shadows": 6, "vulnerable-samples.bootstrap_draws": 100, "shokri.shadows": 6,
    "relearn.epochs": 2, "ain.epochs": 1, "wfnet-relearn.epochs": 2, "model-inversion.steps": 20, "zrf.nets": 2,
}  # fmt: skip
EFFORT = {c.spec.name: c.spec.effort for c in registry().components("measure") if isinstance(c.spec, MeasureSpec)}


def measures() -> list[str]:
    """Every installed measure that judges samples of a classification."""
    specs = [component.spec for component in registry().components("measure")]
    return [
        spec.name
        for spec in specs
        if isinstance(spec, MeasureSpec) and "classification" in spec.tasks and "samples" in spec.requests
    ]


def digits(names: list[str]) -> RunSpec:
    """The default scenario with few epochs."""
    named = {name: value for name, value in SMALL.items() if name.partition(".")[0] in {"recipe", "salun", *names}}
    (spec,) = resolve_experiment({"unlearners": ["salun"], "measures": names, "set": named}, registry())
    assert (spec.dataset.name, spec.model.name, spec.requests[0]["kind"]) == ("digits", "cnn", "samples")
    return spec


@dataclass
class Run:
    """A record, what was left in memory, and what was predicted on the way: by weights and rows."""

    record: Record
    stages: Stages
    predicted: Counter[tuple[str, str]] = field(default_factory=Counter)
    training: list[bool] = field(default_factory=list)

    @property
    def readings(self) -> dict[tuple[str, str, str], dict[str, Any]]:
        """All that is not read off the clock."""
        timed = {m["name"] for m in self.record.document["measures"] if m["timed"]}
        found = [r for r in self.record.readings if r["measure"] not in timed]
        return {(r["measure"], r["subject"], r["key"]): dict(r) for r in found}


def carried_out(folder: Path, names: list[str], out: str, batch_size: int = 1024) -> Run:
    """One run over the store of this module; the host predicts in batches of this size."""
    stages = Stages(registry(), Store(folder / "store"), Phases(registry()))
    predicted: Counter[tuple[str, str]] = Counter()
    training: list[bool] = []

    def spied(model: nn.Module, task: Task, view: View) -> Tensor:
        predicted[tensors_digest({k: v.clone() for k, v in model.state_dict().items()}), view.digest()] += 1
        training.append(model.training)
        return predict(model, task, view, batch_size)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predictions, "predict", spied)
        patch.setattr(RunEvidence, "model", without_passes(RunEvidence.model))
        record, problem = run_one(digits(names), stages, folder / out, "0" * 32)
    assert problem is None, problem
    assert record.status == "complete"
    return Run(record, stages, predicted, training)


def without_passes(model_of: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """Models for measures that say they need predictions alone: their weights may be read, a forward pass fails."""

    def refuse(module: nn.Module, inputs: Any) -> None:
        raise AssertionError("predicts again what evidence.outputs gives")

    def given(evidence: RunEvidence, subject: Subject | None = None) -> nn.Module:
        model = model_of(evidence, subject)
        if EFFORT[evidence.measure] == "predictions":
            model.register_forward_pre_hook(refuse)
        return model

    return given


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tmp_path_factory.mktemp("measures")
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def before(folder: Path) -> dict[str, bytes]:
    """The store with the models of the run itself, before anything but accuracy was measured."""
    carried_out(folder, ["accuracy"], "before")
    return tree(folder / "store")


@pytest.fixture(scope="module")
def run(folder: Path, before: dict[str, bytes]) -> Run:
    return carried_out(folder, measures(), "all")


def test_each_model_predicts_each_split_once_however_many_measures_ask(run: Run) -> None:
    assert len(measures()) >= 20
    own = {models[0]["sha256"] for models in run.record.document["models"].values()}
    assert len(own) == 3
    for sha in own:  # forget, retain, test and hold-out
        assert sum(1 for weights, _ in run.predicted if weights == sha) >= 4
    assert {weights for weights, _ in run.predicted} > own  # those of the ensembles as well
    assert set(run.predicted.values()) == {1}
    assert not any(run.training)


def test_every_measure_has_readings_about_every_subject(run: Run) -> None:
    taken = {m["name"]: m["status"] for m in run.record.document["measures"]}
    assert taken == dict.fromkeys(measures(), "ok")
    for name in measures():
        subjects = {r["subject"] for r in run.record.readings if r["measure"] == name}
        assert subjects == {"original", "gold", "unlearned"}, name


def test_no_measure_changes_a_stored_model(run: Run, folder: Path, before: dict[str, bytes]) -> None:
    after = tree(folder / "store")
    assert len(before) >= 6
    assert {name: after.get(name) for name in before} == before
    assert len(after) > len(before)
    assert call("store", "verify", "--store", folder / "store").rc == 0


def test_no_measure_changes_a_model_in_memory(run: Run) -> None:
    entries = [entry for entry in run.stages._entries.values() if entry.ref is not None]
    assert len(entries) >= 3
    for entry in entries:
        assert tensors_digest(entry.weights) == entry.weights_sha256


def test_every_record_is_valid_and_repeats_its_digest(run: Run, folder: Path) -> None:
    verify_record(run.record)
    done = call("validate", folder, "--json")
    assert done.rc == 0
    found = [row for row in done.json() if row["kind"] == "run-record"]
    assert len(found) >= 2
    assert {row["status"] for row in found} == {"ok"}


def test_readings_depend_neither_on_batch_size_nor_on_the_order_of_measures(run: Run, folder: Path) -> None:
    """37 rows at a time leave a last batch of another size in each split; last bits may differ, readings may not."""
    other = carried_out(folder, measures()[::-1], "reversed", batch_size=37)
    assert other.stages.computed == []  # the same models, down to the last sibling
    mine, theirs = run.readings, other.readings
    assert mine.keys() == theirs.keys()
    for place, reading in mine.items():
        again = theirs[place]
        assert (reading["status"], reading["n"]) == (again["status"], again["n"]), place
        for one, two in zip(numbers(reading), numbers(again), strict=True):
            assert math.isclose(one, two, rel_tol=1e-4, abs_tol=1e-5), (place, one, two)


def numbers(reading: dict[str, Any]) -> list[float]:
    """The value and its interval."""
    return [value for value in (reading["value"], *(reading["interval"] or ())) if value is not None]
