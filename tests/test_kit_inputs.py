"""The kit's own tokens and graphs keep the contract, and who lies about inputs is caught."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from unlearnbench.api import NoParams
from unlearnbench.api.runtime import Component as Part
from unlearnbench.api.runtime import Data, DataJob, Splits
from unlearnbench.plugins import load_plugins
from unlearnbench.registry import Component, Registry
from unlearnbench.testing import datasets, models, unlearners
from unlearnbench.testing.bench import Bench
from unlearnbench.testing.contract import Broken, Check, name_of
from unlearnbench.testing.problem_parts import SmallGraphs, Tokens
from unlearnbench.testing.problems import KINDS, PLUGIN, Problem

IN_PROCESS = datasets.CHECKS[1:]
"""The kit is no installed plugin, so that a process of its own does not know its data sets."""


@pytest.fixture
def bench(tmp_path: Path) -> Callable[[str, str], Bench]:
    registry = Registry([*load_plugins(), PLUGIN])
    return lambda kind, name: Bench(registry.get(kind, name), registry, lambda: tmp_path)


@pytest.mark.parametrize("check", IN_PROCESS, ids=name_of)
@pytest.mark.parametrize("problem", KINDS.values(), ids=KINDS)
def test_data_of_every_kind_keep_the_contract(
    bench: Callable[[str, str], Bench], problem: Problem, check: Check
) -> None:
    check(bench("dataset", problem.dataset))


@pytest.mark.parametrize("check", models.CHECKS, ids=name_of)
@pytest.mark.parametrize("problem", KINDS.values(), ids=KINDS)
def test_networks_of_every_kind_keep_the_contract(
    bench: Callable[[str, str], Bench], problem: Problem, check: Check
) -> None:
    check(bench("model", problem.model))


class NegativeTokens(Tokens):
    """Padding is -1, which no embedding has."""

    def load(self, job: DataJob) -> Splits:
        splits = super().load(job)
        return replace(splits, train=replace(splits.train, x=splits.train.x - 1))


class EndlessNodes(SmallGraphs):
    """A node has an infinite feature."""

    def load(self, job: DataJob) -> Splits:
        splits = super().load(job)
        graphs = splits.train.graphs
        assert graphs is not None
        nodes = graphs.nodes.clone()
        nodes[3, 1] = torch.inf
        return replace(splits, train=replace(splits.train, graphs=replace(graphs, nodes=nodes)))


class Undeclared(Part[NoParams]):
    """Whole numbers that nobody said were tokens."""

    def load(self, job: DataJob) -> Splits:
        def part(first: int) -> Data:
            return Data(
                x=torch.ones(3, 4).long(), y=torch.arange(3), ids=torch.arange(3) + first, outputs=("a", "b", "c")
            )

        return Splits(train=part(0), test=part(3))


@pytest.mark.parametrize(
    ("like", "cls", "words"),
    [
        ("kit-tokens", NegativeTokens, "token ids are not int64 from 0"),
        ("kit-graphs", EndlessNodes, "inputs are not finite floats"),
        ("kit-rows", Undeclared, "inputs are tokens, but numbers are declared"),
    ],
)
def test_inputs_that_are_not_what_is_declared_are_caught(
    bench: Callable[[str, str], Bench], monkeypatch: pytest.MonkeyPatch, like: str, cls: type, words: str
) -> None:
    found = bench("dataset", like)
    monkeypatch.setattr(Component, "cls", property(lambda self: cls))
    with pytest.raises(Broken, match=words):
        datasets.inputs_are_finite(found)


def test_a_kind_that_is_declared_is_served_and_no_other_is_planned(
    bench: Callable[[str, str], Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    serve = Bench.serve
    monkeypatch.setattr(Bench, "serve", lambda self, spec: asked.append(spec.dataset.name) or serve(self, spec))
    unlearners.serves_every_declared_input(bench("unlearner", "finetune"))
    assert asked == ["kit-rows", "kit-tokens", "kit-graphs"]
    asked.clear()
    unlearners.serves_every_declared_input(bench("unlearner", "unsir"))
    assert asked == ["kit-rows"]
    monkeypatch.setattr(unlearners, "check", lambda spec, registry: None)
    with pytest.raises(Broken, match="tokens are not declared, yet planned"):
        unlearners.serves_every_declared_input(bench("unlearner", "unsir"))
