"""The floors that were tried before there was a plugin: digits, an MLP of 64, 64, 32 and 10 units."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from scenario_runs import known, measured

from unlearnbench import Record
from unlearnbench_prune.papers import export, read_papers

ROWS, CLASS = "digits-mlp-random40/v1", "digits-mlp-class3/v1"
READINGS = ["accuracy", "prune-certificate"]
ALONE = """
import sys
for name in ("torch", "scipy", "unlearnbench"):
    sys.modules[name] = None  # importing it now fails
from unlearnbench_verifier.command import run
run()
"""


def served(out: Path, unlearner: str = "prune", scenario: str = ROWS, **params: Any) -> Record:
    chosen = {f"{unlearner}.{name}": value for name, value in params.items()}
    return measured(unlearner, scenario, [*READINGS, "two-sided-mia"], out, chosen)


def verified(*arguments: str | Path) -> list[str]:
    """The lines of the verifier in a process that can import neither torch nor the host."""
    command = [sys.executable, "-c", ALONE, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_the_scenarios_profile_certifies_every_row_and_leaves_all_others_alone(tmp_path: Path) -> None:
    record = served(tmp_path)
    certificate = record.document["certificate"]
    assert (certificate["rows"], certificate["certified"], certificate["holds"]) == (40, 40, True)
    assert known(record, "accuracy.forget") == 0
    for split in ("retain", "test"):
        assert known(record, f"accuracy.{split}") == known(record, f"accuracy.{split}", "original")
    given = tmp_path / "given"
    export(read_papers(record.folder), given, owner=True, key=None, created=None)
    model = ("--model", given / "model.safetensors")
    lines = verified(*sorted((given / "owner").glob("*.json")), *model)
    assert lines[-1] == "40 of 40 certificates verified"
    assert not any(line.startswith("WRONG") for line in lines)
    assert verified(given / "owner" / "0000.json", *model, "--exact")[-1] == "1 of 1 certificate verified"


def test_a_recall_of_zero_is_told_beside_an_attack_that_is_right_the_other_way(tmp_path: Path) -> None:
    record = served(tmp_path)
    assert known(record, "yeom-recall.forget", "original") > 0.7
    assert known(record, "yeom-recall.forget") <= 0.05
    assert known(record, "yeom-auc.forget") <= 0.05
    assert known(record, "yeom-two-sided.forget") >= 0.45
    assert known(record, "yeom-two-sided.forget", "gold") <= 0.15


def test_whole_regions_redirect_some_other_rows_and_few(tmp_path: Path) -> None:
    record = served(tmp_path, radius="whole")
    assert record.document["certificate"]["certified"] == 40
    assert known(record, "accuracy.forget") == 0
    lost = known(record, "accuracy.test", "original") - known(record, "accuracy.test")
    assert 0 <= lost <= 0.03
    assert known(record, "accuracy.retain") >= 0.97


def test_sharp_support_nets_keep_what_wide_ones_lose(tmp_path: Path) -> None:
    accuracies = []
    for sharpness in (0.1, 1.0, 10.0, 100.0):
        record = served(tmp_path, gate="support", sharpness=sharpness)
        assert known(record, "accuracy.forget") <= 0.05
        accuracies.append(known(record, "accuracy.test"))
    assert accuracies == sorted(accuracies)
    before = known(record, "accuracy.test", "original")
    assert before - accuracies[0] >= 0.3
    assert before - accuracies[2] <= 0.04
    assert before - accuracies[3] <= 0.04


@pytest.mark.parametrize(("multi", "rate", "certified"), [("paper", 0.9, 0.0), ("certified", 1.0, 1.0)])
def test_clusters_forget_in_two_rounds_or_with_a_proof_in_one(
    multi: str, rate: float, certified: float, tmp_path: Path
) -> None:
    gate, radius = ("exact", "whole") if multi == "certified" else ("support", "whole")
    record = served(tmp_path, multi=multi, clusters=5, gate=gate, radius=radius)
    assert 1 - known(record, "accuracy.forget") >= rate
    assert known(record, "certified.forget") >= certified


def test_a_class_falls_under_its_support_nets_unseen_rows_too(tmp_path: Path) -> None:
    record = served(tmp_path, "prune-class", CLASS)
    assert known(record, "accuracy.forget") == 0
    assert known(record, "accuracy.holdout") <= 0.05
    assert known(record, "accuracy.holdout", "original") >= 0.9
    assert known(record, "accuracy.retain") >= 0.80
    assert known(record, "certified.forget") == 1


def test_a_class_that_is_lowered_everywhere_is_predicted_nowhere(tmp_path: Path) -> None:
    record = served(tmp_path, "prune-class", CLASS, form="global")
    assert known(record, "accuracy.forget") == known(record, "accuracy.holdout") == 0
    assert known(record, "accuracy.retain", "original") - known(record, "accuracy.retain") <= 0.01
    assert record.document["certificate"]["claim"] == "never"
