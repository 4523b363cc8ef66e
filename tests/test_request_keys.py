"""Requests that choose the same rows in other words, and what streams and failed measures leave behind."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from support import assert_one_error, call

from unlearnbench.api import MeasureSpec, PluginError, ReadingSpec
from unlearnbench.api.runtime import Component, Evidence, Reading
from unlearnbench.config import resolve_experiment
from unlearnbench.phases import Phases
from unlearnbench.plugins import BUILTIN, Plugin
from unlearnbench.record import ARTIFACTS
from unlearnbench.registry import Registry, registry
from unlearnbench.runner import run_one
from unlearnbench.spec import RunSpec
from unlearnbench.stages import Stages
from unlearnbench.store import Store
from unlearnbench.testing.problems import PLUGIN


class Keeps(Component[Any]):
    """Keeps a tensor of every subject; the one that breaks does so at the last."""

    breaks = False

    def measure(self, evidence: Evidence) -> Iterable[Reading]:
        evidence.keep("picture", torch.ones(2))
        if self.breaks and evidence.subject == "unlearned":
            raise PluginError("broken-contract", "cannot go on")
        yield Reading("kept", 1.0, 1)


class Breaks(Keeps):
    """Keeps, then breaks."""

    breaks = True


def known() -> Registry:
    specs = tuple(
        MeasureSpec(
            name=name, summary="Keeps a tensor.", target=f"{__name__}:{cls}",
            readings=(ReadingSpec(name="kept", better="gold"),),
        )
        for name, cls in (("keeps", "Keeps"), ("breaks", "Breaks"))
    )  # fmt: skip
    host = [plugin for plugin in registry().plugins if plugin.name == BUILTIN]
    return Registry([*host, PLUGIN, Plugin("keeping", __name__, "keeping", "1", specs)])


def spec(forget: dict[str, Any], measures: list[str]) -> RunSpec:
    experiment = {
        "dataset": "kit-rows", "model": "kit-mlp", "unlearners": ["identity"], "measures": measures,
        "recipe": {"epochs": 1, "batch_size": 16}, "forget": [forget],
    }  # fmt: skip
    (found,) = resolve_experiment(experiment, known())
    return found


def stages(folder: Path) -> Stages:
    return Stages(known(), Store(folder), Phases(known()))


def test_a_class_and_its_rows_by_id_are_two_results(tmp_path: Path) -> None:
    made = stages(tmp_path)
    of_class = spec({"kind": "class", "classes": ["b"]}, ["accuracy"])
    ids = made.scene(of_class).parts[0].forget.view("forget").ids.tolist()
    by_id = spec({"kind": "samples", "ids": ids}, ["accuracy"])
    assert made.scene(by_id).parts[0].forget.view("forget").ids.tolist() == ids
    assert made.unlearned(of_class).key != made.unlearned(by_id).key
    assert made.gold(of_class).key == made.gold(by_id).key  # training knows neither


@pytest.mark.parametrize(("measure", "left"), [("keeps", True), ("breaks", False)])
def test_what_a_failed_measure_kept_is_not_beside_the_record(tmp_path: Path, measure: str, left: bool) -> None:
    made = stages(tmp_path / "store")
    record, _ = run_one(spec({"kind": "class", "classes": ["b"]}, [measure]), made, tmp_path / "runs", "0" * 32)
    assert (record.folder / ARTIFACTS).is_file() == left
    assert not made.kept


@pytest.mark.parametrize("step", ["resize", "flatten"])
def test_what_moves_pixels_is_refused_where_annotations_name_places(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    size = ("--set", "resize.size=16") if step == "resize" else ()
    done = call("run", "--dataset", "shapes", "--set", "shapes.task=detection", "--set", "shapes.train_rows=40",
                "--set", "shapes.test_rows=20", "--model", "scene-boxes", "--unlearner", "identity", "--no-tracking",
                "--forget", "target=disc", "--preprocess", step, *size)  # fmt: skip
    assert_one_error(done, 3, "incompatible", "would move images away from their detection annotations")


def test_a_stream_of_target_and_class_takes_both_hold_outs_from_the_data_sets_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stream.json").write_text(
        '[{"kind": "target", "targets": ["3"]}, {"kind": "class", "classes": ["4"]}]', "utf-8"
    )
    done = call("run", "--dataset", "digits", "--model", "mlp", "--preprocess", "flip-labels",
                "--set", "flip-labels.holdout=60", "--unlearner", "identity", "--requests", "stream.json",
                "--measure", "accuracy", "--set", "recipe.epochs=1", "--no-tracking")  # fmt: skip
    assert done.rc == 0, done.stderr
