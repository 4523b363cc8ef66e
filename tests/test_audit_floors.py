"""What audits must read of a model that forgot nothing, and the floor that gold sets, on scenarios that memorise.

Every audit is of the control ``identity``, through the command line, over the store of all scenarios; the ensembles of
Location-30 are those of the profile ``gold``. U-LiRA has 8 shadows, half as many as in the profile ``audit``, which has
room enough: on Location-30 with seeds 0 to 4 gold reads 0.478 to 0.514 and the original 0.993 to 0.995, at 1 % false
alarms at most 0.014 and 0.86 to 0.89; the null is 0.499 on average. On the noisy digits the whole audit is of one seed;
the floor, which needs the gold models alone, is of five seeds with 16 shadows.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from scenario_runs import shared_store
from support import call

from unlearnbench.config import resolve_experiment
from unlearnbench.evidence import RunEvidence
from unlearnbench.guard import deterministic
from unlearnbench.phases import Phases
from unlearnbench.price import made_measure
from unlearnbench.record import Record, read_record, verify_record
from unlearnbench.registry import registry
from unlearnbench.spec import Choice
from unlearnbench.stages import Stages
from unlearnbench.store import Store

pytestmark = pytest.mark.acceptance

SEEDS = range(5)
LOCATION = "location30-mlp-random10/v1"
NOISY = "digits-noisy-cnn-random10/v1"

needs_data = pytest.mark.skipif(
    not os.environ.get("UNLEARNBENCH_DATA"), reason="UNLEARNBENCH_DATA names no folder with Location-30"
)


@dataclass(frozen=True)
class Audit:
    """The records of one invocation by seed."""

    records: dict[int, Record]

    def readings(self, key: str, subject: str) -> list[dict[str, Any]]:
        """One per seed."""
        found = []
        for record in self.records.values():
            (reading,) = [r for r in record.readings if (r["key"], r["subject"]) == (key, subject)]
            found.append(dict(reading))
        return found

    def values(self, key: str, subject: str) -> list[float]:
        found = [reading["value"] for reading in self.readings(key, subject)]
        assert None not in found
        return found

    def value(self, key: str, subject: str) -> float:
        """The reading of the only seed."""
        (found,) = self.values(key, subject)
        return found


def audit(
    folder: Path, scenario: str, seeds: Sequence[int], *measures: str, settings: Mapping[str, int] | None = None
) -> Audit:
    """Run the control; the models go into the store that all tests of scenarios share."""
    chosen = [argument for seed in seeds for argument in ("--seed", str(seed))]
    chosen += [argument for measure in measures for argument in ("--measure", measure)]
    chosen += [argument for name, value in (settings or {}).items() for argument in ("--set", f"{name}={value}")]
    out = folder / "-".join([scenario.partition("/")[0], *measures])
    done = call(
        "run", "--scenario", scenario, "--unlearner", "identity", *chosen,
        "--out", out, "--store", shared_store(out), "--no-tracking", "--json",
    )  # fmt: skip
    assert done.rc == 0, done.stderr
    records = [read_record(out / document["id"]) for document in done.json()]
    for record in records:
        verify_record(record)
        assert record.status == "complete"
    found = {int(record.document["spec"]["seeds"]["train"]): record for record in records}
    assert sorted(found) == list(seeds)
    return Audit(found)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("floors")


@pytest.fixture(scope="module")
def location(folder: Path) -> Audit:
    return audit(folder, LOCATION, SEEDS, "u-lira", "loss-attack", settings={"u-lira.shadows": 8})


@pytest.fixture(scope="module")
def ensembles(folder: Path) -> Audit:
    return audit(folder, LOCATION, [0], "klom", "forgetting-score")


@pytest.fixture(scope="module")
def noisy(folder: Path) -> Audit:
    return audit(folder, NOISY, SEEDS, "loss-attack")


@pytest.fixture(scope="module")
def noisy_shadows(folder: Path) -> Audit:
    return audit(folder, NOISY, [0], "u-lira", settings={"u-lira.shadows": 8})


# -- U-LiRA ------------------------------------------------------------------------------------------------------------


@needs_data
def test_u_lira_does_not_tell_gold_from_gold(location: Audit) -> None:
    golds = location.values("u-lira-auc", "gold")
    assert max(abs(auc - 0.5) for auc in golds) <= 0.05, golds
    assert abs(fmean(golds) - 0.5) <= 0.02, golds
    assert len(set(golds)) == 5, "each seed has shadows of its own"
    assert max(location.values("u-lira-tpr.fpr=0.01", "gold")) <= 0.03


@needs_data
def test_u_lira_tells_a_model_that_forgot_nothing_also_at_few_false_alarms(location: Audit) -> None:
    assert min(location.values("u-lira-auc", "unlearned")) >= 0.95
    assert min(location.values("u-lira-tpr.fpr=0.01", "unlearned")) >= 0.5
    assert {reading["verdict"] for reading in location.readings("u-lira-auc", "unlearned")} == {"above gold"}
    assert max(location.values("u-lira-p-value", "unlearned")) <= 0.01


@needs_data
def test_u_lira_reads_one_half_where_membership_is_swapped_at_random(location: Audit) -> None:
    """Plain leave-one-out reads below: a row that is left out of one half is in the other."""
    nulls = [auc for subject in ("original", "gold") for auc in location.values("u-lira-null-auc", subject)]
    assert abs(fmean(nulls) - 0.5) <= 0.01, nulls
    for subject in ("original", "gold"):
        for reading in location.readings("u-lira-null-auc", subject):
            low, high = reading["interval"]
            assert low < 0.5 < high


@needs_data
def test_one_threshold_for_all_rows_reads_less_of_the_same_models(location: Audit) -> None:
    calibrated, plain = (location.values(f"u-lira-{name}", "unlearned") for name in ("auc", "uncalibrated-auc"))
    assert all(sees > blind + 0.05 for sees, blind in zip(calibrated, plain, strict=True))


def test_u_lira_catches_wrong_labels_that_a_small_network_memorised(noisy_shadows: Audit) -> None:
    assert noisy_shadows.value("u-lira-auc", "unlearned") >= 0.85
    assert abs(noisy_shadows.value("u-lira-auc", "gold") - 0.5) <= 0.06
    assert abs(noisy_shadows.value("u-lira-null-auc", "gold") - 0.5) <= 0.01


def test_the_floor_of_u_lira_holds_for_five_seeds_of_noisy_digits(folder: Path) -> None:
    """Gold shadows saw no audit row, whichever half they are said to have seen."""
    components = registry()
    found = resolve_experiment({"scenario": NOISY, "unlearners": ["identity"], "seeds": list(SEEDS)}, components)
    stages = Stages(components, Store(shared_store(folder / "runs")), Phases(components))
    measure = made_measure(components, Choice("u-lira", {}))
    floors, nulls = [], []
    with deterministic(1):
        for spec in found:
            readings = measure.measure(RunEvidence(stages, spec, 0, "gold", "u-lira", ("siblings",)))
            values = {reading.key: reading.value for reading in readings}
            floors.append(values["u-lira-auc"])
            nulls.append(values["u-lira-null-auc"])
    assert max(abs(auc - 0.5) for auc in floors) <= 0.06, floors
    assert abs(fmean(floors) - 0.5) <= 0.03, floors
    assert abs(fmean(nulls) - 0.5) <= 0.01, nulls


# -- the loss attack ---------------------------------------------------------------------------------------------------


def test_the_hold_out_carries_the_noise_of_the_forget_set(noisy: Audit) -> None:
    """Against clean rows gold would read 0.3 to 0.36, since every third row of the forget set has a wrong label."""
    golds = noisy.values("loss-attack-auc", "gold")
    assert abs(fmean(golds) - 0.5) <= 0.06, golds
    assert min(noisy.values("loss-attack-auc", "original")) >= 0.65


@needs_data
def test_the_original_of_the_locations_is_seen_by_its_losses(location: Audit) -> None:
    originals, golds = (location.values("loss-attack-auc", subject) for subject in ("original", "gold"))
    assert min(originals) >= 0.75
    assert abs(fmean(golds) - 0.5) <= 0.06, golds


# -- many models -------------------------------------------------------------------------------------------------------


@needs_data
def test_klom_has_a_floor_below_one_and_a_model_that_forgot_nothing_is_far_above(ensembles: Audit) -> None:
    assert {m["params"]["n"] for m in ensembles.records[0].document["spec"]["measures"]} == {64}
    floor = ensembles.value("klom.forget", "gold")
    assert 0 < floor <= 1.0
    assert ensembles.value("klom.forget", "unlearned") >= max(5, 3 * floor)


@needs_data
def test_no_gold_model_is_told_apart_by_the_forgetting_score(ensembles: Audit) -> None:
    """The largest log ratio over all thresholds is never 0, so the floor of epsilon is not 0 either."""
    assert ensembles.value("at-cap.forget", "gold") == 0
    assert 0 < ensembles.value("epsilon.forget", "gold") <= 2.5
    assert ensembles.value("forgetting-quality.forget", "gold") >= 0.07


@needs_data
def test_a_model_that_forgot_nothing_has_at_most_a_quarter_of_the_floors_score(ensembles: Audit) -> None:
    floor = ensembles.value("forgetting-quality.forget", "gold")
    assert ensembles.value("forgetting-quality.forget", "unlearned") <= floor / 4
    assert ensembles.value("at-cap.forget", "unlearned") >= 0.5


# -- the control -------------------------------------------------------------------------------------------------------


def assert_as_the_original(*audits: Audit) -> None:
    told = ("value", "interval", "n", "status", "gap", "verdict")
    for record in [record for audit in audits for record in audit.records.values()]:
        original, unlearned = (
            {(r["measure"], r["key"]): [r[part] for part in told] for r in record.readings if r["subject"] == subject}
            for subject in ("original", "unlearned")
        )
        assert original
        assert unlearned == original


@needs_data
def test_on_the_locations_the_control_reads_as_the_original_to_the_last_digit(
    location: Audit, ensembles: Audit
) -> None:
    assert_as_the_original(location, ensembles)


def test_on_noisy_digits_the_control_reads_as_the_original_to_the_last_digit(
    noisy: Audit, noisy_shadows: Audit
) -> None:
    assert_as_the_original(noisy, noisy_shadows)
