"""FLOPs and energy: counted by hand, in passes of their own that spoil no time."""

from __future__ import annotations

import sys
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from support import WINE, assert_one_error, call
from torch.utils._python_dispatch import TorchDispatchMode

import unlearnbench
from unlearnbench import Record
from unlearnbench.api import NoParams, UsageError
from unlearnbench.builtin import cost
from unlearnbench.builtin.cost import Energy, joules

ROWS, RETAINED = 142, 128
"""Training rows of wine, and those that are left when a tenth is forgotten."""
SMALL = {"recipe.epochs": 1, "recipe.batch_size": 32}


def wine(folder: Path, *measures: str, unlearner: str = "retrain", out: str = "runs", **more: Any) -> Record:
    """One epoch of logistic regression: 13 features, 3 classes."""
    (record,) = unlearnbench.run(
        unlearner, dataset="wine", model="logistic", measures=measures, parameters=SMALL, seed=0,
        out=folder / out, store=folder / "store", **more,
    )  # fmt: skip
    assert record.status == "complete"
    return record


def digits(folder: Path, model: str, parameters: dict[str, Any]) -> Record:
    (record,) = unlearnbench.run(
        "retrain", dataset="digits", model=model, measures=["flops"], seed=0,
        parameters={**SMALL, **parameters}, out=folder / "runs",
    )  # fmt: skip
    return record


# -- FLOPs -------------------------------------------------------------------------------------------------------------


def test_flops_of_a_linear_layer_are_two_per_product_forward_and_for_its_weights(tmp_path: Path) -> None:
    """Inputs have no gradient: m x k times k x n forward, and k x m times m x n backward."""
    record = wine(tmp_path, "flops")
    assert record.value("flops", "original") == 2 * (2 * ROWS * 13 * 3)
    assert record.value("flops", "gold") == 2 * (2 * RETAINED * 13 * 3)
    assert record.value("flops") == record.value("flops", "gold")  # retraining is what gold was made by
    assert record.value("flops-saved") == 1
    (unit,) = {r["unit"] for r in record.readings if r["name"] == "flops"}
    assert unit == "FLOP"


def test_flops_of_a_hidden_layer_count_the_gradient_that_passes_through_it(tmp_path: Path) -> None:
    record = digits(tmp_path, "mlp", {"mlp.hidden": [20]})
    first, last = 2 * 64 * 20, 2 * 20 * 10
    rows = record.document["data"]["train"]["rows"]
    assert record.value("flops", "original") == rows * (2 * first + 3 * last)


def test_flops_of_a_small_convolutional_net_are_counted_by_place_channel_and_kernel(tmp_path: Path) -> None:
    record = digits(tmp_path, "cnn", {"cnn.channels": [4, 6], "cnn.hidden": 5})
    one = 2 * (8 * 8) * (4 * 1 * 3 * 3)  # the first sees 8 x 8 pixels, the second what pooling leaves of them
    two = 2 * (4 * 4) * (6 * 4 * 3 * 3)
    linear = 2 * (6 * 2 * 2) * 5 + 2 * 5 * 10
    rows = record.document["data"]["train"]["rows"]
    assert record.value("flops", "original") == rows * (2 * one + 3 * two + 3 * linear)


def test_flops_are_the_same_count_whether_models_were_made_now_or_before(tmp_path: Path) -> None:
    first = wine(tmp_path, "flops", unlearner="salun")
    again = wine(tmp_path, "flops", unlearner="salun", out="again")  # every model comes from the store
    fresh = wine(tmp_path / "elsewhere", "flops", unlearner="salun")
    assert first.value("flops") > 0
    assert first.readings == again.readings == fresh.readings
    assert first.document["digest"] == again.document["digest"] == fresh.document["digest"]


def test_doing_nothing_has_a_status_and_saves_no_infinite_factor(tmp_path: Path) -> None:
    record = wine(tmp_path, "flops", unlearner="identity")
    (saved,) = [r for r in record.readings if r["name"] == "flops-saved"]
    assert (saved["value"], saved["status"]) == (None, "nothing was computed")
    assert record.value("flops") == 0
    assert record.value("flops", "original") > 0


def test_a_checkpoint_was_not_trained_here(tmp_path: Path) -> None:
    save_file({"1.weight": torch.zeros(3, 13), "1.bias": torch.zeros(3)}, tmp_path / "own.safetensors")
    record = wine(tmp_path, "flops", "energy", checkpoint=tmp_path / "own.safetensors")
    found = {r["name"]: (r["value"], r["status"]) for r in record.readings if r["subject"] == "original"}
    assert found == {"flops": (None, "not trained here"), "energy": (None, "not trained here")}
    assert record.value("flops", "gold") == 2 * (2 * RETAINED * 13 * 3)


# -- passes of their own -----------------------------------------------------------------------------------------------


class Slow(TorchDispatchMode):
    """What every observer is to some degree: each operation takes longer under it."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        sleep(0.002)
        return func(*args, **(kwargs or {}))


def test_times_are_not_taken_from_the_observed_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    took: list[float] = []

    def observed(run: Any) -> int:
        started = perf_counter()
        with Slow():
            run()
        took.append(perf_counter() - started)
        return 1

    monkeypatch.setattr(cost, "counted", observed)
    plain = wine(tmp_path, "run-cost")
    both = wine(tmp_path / "both", "flops", "run-cost")
    assert len(took) == 3  # train, train-gold, unlearn: once each, although original, gold and unlearned ask for gold's
    for subject in ("original", "gold", "unlearned"):
        assert both.value("wall-time", subject) < min(took) / 2
        assert both.value("rows-read", subject) == plain.value("rows-read", subject)
    after = wine(tmp_path / "both", "run-cost", out="after")  # what is stored is not the observed pass either
    assert after.document["costs"] == both.document["costs"]


# -- energy ------------------------------------------------------------------------------------------------------------


def test_energy_of_work_is_positive_and_grows_with_it() -> None:
    def work(seconds: float) -> float:
        def run() -> None:
            until = perf_counter() + seconds
            while perf_counter() < until:
                torch.randn(50, 50).mm(torch.randn(50, 50))

        with torch.random.fork_rng():
            return joules(run)

    short, long = work(0.2), work(1.5)
    assert 0 < short < long


def test_energy_of_a_run_is_read_for_every_subject(tmp_path: Path) -> None:
    record = wine(tmp_path, "energy", "run-cost")
    found = [r for r in record.readings if r["name"] == "energy"]
    assert [(r["subject"], r["unit"], r["better"]) for r in found] == [
        (subject, "J", "lower") for subject in ("original", "gold", "unlearned")
    ]
    assert all(r["value"] > 0 for r in found)
    assert {m["name"]: m["timed"] for m in record.document["measures"]} == {"energy": True, "run-cost": True}


def test_without_codecarbon_energy_is_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "codecarbon", None)
    with pytest.raises(UsageError, match="codecarbon, which is not installed"):
        Energy(NoParams())
    for more in ((), ("--dry-run",)):
        done = call("run", *WINE, "-u", "retrain", "--measure", "energy", "--out", tmp_path / "runs", *more)
        assert_one_error(done, 2, "missing-extra", "measure energy", "pip install 'unlearnbench[energy]'")
    assert not list(tmp_path.rglob("*.json"))
