"""Attacks on edges and nodes and the distance of embeddings, on evidence made by hand and on Cora."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hand_evidence import HandEvidence
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

import unlearnbench
from unlearnbench.api import NoParams
from unlearnbench.api.runtime import MISSING, Data, NodeClassification, Reading, Task, View, generator
from unlearnbench_graphs.edges import EdgeMia
from unlearnbench_graphs.embeddings import EmbeddingDistance
from unlearnbench_graphs.networks import SgcMlpNet, SgcNet
from unlearnbench_graphs.nodes import NodeMia
from unlearnbench_graphs.plugin import EdgeMiaParams, SgcMlpParams
from unlearnbench_graphs.roc import area_reading

N, FEATURES, CLASSES = 40, 6, 3
Y = torch.arange(N) % CLASSES
ROWS = {"forget": torch.arange(0, 8), "retain": torch.arange(8, 20), "test": torch.arange(20, N)}
EDGES = torch.stack([torch.arange(N - 1), torch.arange(1, N)])
FORGOTTEN = torch.tensor([[0, 1, 4, 5, 6], [3, 9, 30, 31, 22]])
NEVER = torch.tensor([[0, 2, 7, 10, 11, 12], [20, 25, 31, 18, 35, 30]])


def features() -> Tensor:
    return torch.eye(FEATURES)[Y] + 0.3 * torch.randn(N, FEATURES, generator=generator(0))


@dataclass(kw_only=True)
class GraphEvidence(HandEvidence):
    """Splits are annotated nodes of one graph; pairs of nodes by split."""

    pairs: Mapping[str, Tensor] = field(default_factory=lambda: {"forget": FORGOTTEN, "holdout": NEVER})
    task: Task = field(default_factory=NodeClassification)

    def view(self, split: str) -> View:
        data = self.data[split]
        known = (data.y != MISSING).nonzero().flatten()
        return View(data, known, name=split, elements=self.pairs.get(split))

    def y(self, split: str) -> Tensor:
        y = self.data[split].y
        return y[y != MISSING]


def graph(x: Tensor | None = None, edges: Tensor = EDGES, rows: Mapping[str, Tensor] = ROWS) -> dict[str, Data]:
    x = features() if x is None else x
    found = {}
    for name, at in {**rows, "holdout": rows["test"][:4]}.items():
        y = torch.full((N,), MISSING)
        y[at] = Y[at]
        found[name] = Data(x, y, torch.arange(N), tuple("abc"), edges=edges)
    return found


def model(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SgcNet(FEATURES, CLASSES, (0.0, 1.0))


def perceptron(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SgcMlpNet(FEATURES, CLASSES, (0.0, 1.0), SgcMlpParams(hidden=(5,))).eval()


def only(readings: Any) -> Reading:
    (found,) = readings
    return found  # type: ignore[no-any-return]


def test_edge_mia_is_the_area_of_the_cosines_of_posteriors() -> None:
    net = model()
    found = only(EdgeMia(EdgeMiaParams()).measure(GraphEvidence(data=graph(), models={"unlearned": net})))
    with torch.no_grad():
        p = net(features(), EDGES).double().softmax(1).numpy()
    wins = []
    for u, v in FORGOTTEN.T.tolist():
        # As many pairs of either side are drawn: here 5 of 6, so the area is one of the six that leave one out.
        wins.append([_cosine(p[u], p[v]) > _cosine(p[a], p[b]) for a, b in NEVER.T.tolist()])
    table = np.array(wins, dtype=float)
    possible = [np.delete(table, k, 1).mean() for k in range(NEVER.shape[1])]
    assert found.n == 10
    assert found.value is not None
    assert min(abs(found.value - area) for area in possible) < 1e-12
    assert found.low is not None
    assert found.high is not None
    assert 0 <= found.low <= found.value <= found.high <= 1


def _cosine(a: Any, b: Any) -> float:
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def test_edge_mia_is_one_for_ends_that_agree_and_half_for_one_answer() -> None:
    class Fixed(nn.Module):
        def __init__(self, out: Tensor) -> None:
            super().__init__()
            self.out = out

        def forward(self, x: Tensor, edges: Tensor) -> Tensor:
            return self.out

    same = torch.zeros(N, CLASSES)
    telling = 10 * torch.eye(CLASSES)[Y]
    pairs = {"forget": torch.tensor([[0, 1, 2], [3, 4, 5]]), "holdout": torch.tensor([[0, 1, 2], [4, 5, 6]])}
    for out, expected in ((same, 0.5), (telling, 1.0), (-telling, 1.0)):
        evidence = GraphEvidence(data=graph(), models={"unlearned": Fixed(out)}, pairs=pairs)
        assert only(EdgeMia(EdgeMiaParams()).measure(evidence)).value == expected


def test_edge_mia_draws_no_more_pairs_than_it_is_told() -> None:
    rng = generator(0)
    pairs = {name: torch.randint(N, (2, 50), generator=rng) for name in ("forget", "holdout")}
    evidence = GraphEvidence(data=graph(), models={"unlearned": model()}, pairs=pairs)
    assert only(EdgeMia(EdgeMiaParams(pairs=10)).measure(evidence)).n == 20
    assert only(EdgeMia(EdgeMiaParams()).measure(evidence)).n == 100


def test_edge_mia_has_no_value_without_edges_or_ends() -> None:
    models = {"unlearned": model()}
    without = GraphEvidence(data=graph(), models=models, pairs={})
    x = features()
    x[FORGOTTEN[0]] = 0
    gone = EDGES[:, ~torch.isin(EDGES, FORGOTTEN[0]).any(0)]
    emptied = GraphEvidence(data=graph(x, gone), models=models)
    for evidence in (without, emptied):
        found = only(EdgeMia(EdgeMiaParams()).measure(evidence))
        assert (found.value, found.n, found.status) == (None, 0, "no edges between nodes that are left")


def test_node_mia_is_the_area_of_the_losses() -> None:
    net = model(1)
    evidence = GraphEvidence(data=graph(), models={"unlearned": net})
    found = only(NodeMia(NoParams()).measure(evidence))
    with torch.no_grad():
        z = net(features(), EDGES).double().numpy()
    loss = np.log(np.exp(z).sum(1)) - z[np.arange(N), Y.numpy()]
    wins = [(loss[u] < loss[v]) + 0.5 * (loss[u] == loss[v]) for u in ROWS["forget"] for v in ROWS["test"]]
    assert found.value == pytest.approx(np.mean(wins), abs=1e-12)
    assert found.n == 28


def test_node_mia_leaves_out_nodes_of_which_nothing_is_left() -> None:
    x = features()
    x[:3] = 0
    x[20] = 0
    edges = EDGES[:, ~torch.isin(EDGES, torch.tensor([0, 1, 2])).any(0)]  # node 20 keeps its edges
    net = model(1)
    found = only(NodeMia(NoParams()).measure(GraphEvidence(data=graph(x, edges), models={"unlearned": net})))
    fewer = {**ROWS, "forget": torch.arange(3, 8)}
    same = only(NodeMia(NoParams()).measure(GraphEvidence(data=graph(x, edges, fewer), models={"unlearned": net})))
    assert (found.value, found.n) == (same.value, 25)
    nobody = {**ROWS, "forget": torch.arange(3)}
    none = only(NodeMia(NoParams()).measure(GraphEvidence(data=graph(x, edges, nobody), models={"unlearned": net})))
    assert (none.value, none.status) == (None, "nothing is left of the forgotten nodes")


def test_node_mia_has_no_value_for_outputs_that_are_not_finite_or_no_nodes() -> None:
    broken = model()
    with torch.no_grad():
        broken.head.weight.fill_(torch.nan)
    found = only(NodeMia(NoParams()).measure(GraphEvidence(data=graph(), models={"unlearned": broken})))
    assert (found.value, found.status) == (None, "non-finite")
    nobody = graph(rows={**ROWS, "forget": torch.arange(0)})
    found = only(NodeMia(NoParams()).measure(GraphEvidence(data=nobody, models={"unlearned": model()})))
    assert (found.value, found.status) == (None, "empty split")


def test_areas_agree_with_scikit_learn_and_their_intervals_with_a_plain_bootstrap() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(0.5, 1, 60).round(1), rng.normal(0, 1, 90).round(1)  # rounded: there are ties
    found = area_reading("a", first, second, np.random.default_rng(1))
    y = np.repeat([1, 0], [60, 90])
    drawn = [roc_auc_score(y, np.concatenate([rng.choice(first, 60), rng.choice(second, 90)])) for _ in range(2000)]
    assert found.value == pytest.approx(roc_auc_score(y, np.concatenate([first, second])), abs=1e-12)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.02)


def test_embedding_distance_is_relative_to_golds_hidden_units() -> None:
    gold, ours = perceptron(0), perceptron(1)
    hidden = []
    for net in (ours, gold):
        with torch.no_grad():
            propagated = net._memory.propagated(features(), EDGES, (0.0, 1.0), torch.float32)
            hidden.append(net.head[:-1](propagated).double().numpy())
    expected = np.sqrt(((hidden[0] - hidden[1]) ** 2).sum() / (hidden[1] ** 2).sum())
    evidence = GraphEvidence(data=graph(), models={"unlearned": ours, "gold": gold})
    found = only(EmbeddingDistance(NoParams()).measure(evidence))
    assert found.value == pytest.approx(expected, rel=1e-6)
    assert found.n == N
    evidence.subject = "gold"
    assert only(EmbeddingDistance(NoParams()).measure(evidence)).value == 0


class Convolution(nn.Module):
    """As convolutions of graph libraries are: an offset of its own and a line within it."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.lin = nn.Linear(inputs, outputs, bias=False)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.lin(x) + self.bias
        return out


class TwoConvolutions(nn.Module):
    def __init__(self, scale: float) -> None:
        super().__init__()
        self.first, self.last = Convolution(FEATURES, 4), Convolution(4, CLASSES)
        nn.init.constant_(self.first.lin.weight, scale)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        out: Tensor = self.last(self.first(x).relu())
        return out


def test_the_last_convolution_counts_as_one_layer() -> None:
    evidence = GraphEvidence(data=graph(), models={"unlearned": TwoConvolutions(1.5), "gold": TwoConvolutions(1.0)})
    # Hidden units are 1.5 times those of gold, so half its norm away.
    assert only(EmbeddingDistance(NoParams()).measure(evidence)).value == pytest.approx(0.5, rel=1e-6)


def test_embedding_distance_has_no_value_where_it_would_say_nothing() -> None:
    for models, status in (
        ({"unlearned": model(1), "gold": model()}, "nothing is learned before the last layer"),
        ({"unlearned": TwoConvolutions(1.0), "gold": TwoConvolutions(0.0)}, "gold's embeddings are zero"),
        ({"unlearned": perceptron(), "gold": TwoConvolutions(1.0)}, "embeddings of another shape than gold's"),
    ):
        found = only(EmbeddingDistance(NoParams()).measure(GraphEvidence(data=graph(), models=models)))
        assert (found.value, found.status) == (None, status)


@pytest.mark.skipif("UNLEARNBENCH_DATA" not in os.environ, reason="Cora lies in the folder UNLEARNBENCH_DATA")
def test_on_cora_a_model_that_never_saw_the_edges_tells_them_by_homophily(tmp_path: Path) -> None:
    (record,) = unlearnbench.run(
        "finetune", dataset="planetoid", model="sgc-mlp", out=tmp_path,
        forget=[{"kind": "edges", "count": 500}], measures=["edge-mia", "node-mia", "embedding-distance"],
        parameters={
            "sgc-mlp.hidden": [16], "recipe.epochs": 40, "recipe.optimizer": "adam", "recipe.lr": 0.01,
            "finetune.epochs": 5,
        },
    )  # fmt: skip
    assert record.status == "complete"
    for subject in ("original", "unlearned", "gold"):
        value = record.value("edge-mia-auc", subject)
        assert value is not None
        assert 0.65 < value < 0.95
        assert record.value("node-mia-auc", subject) is not None
    assert record.value("embedding-distance", "gold") == 0
    assert (record.value("embedding-distance", "original") or 0) > 0
