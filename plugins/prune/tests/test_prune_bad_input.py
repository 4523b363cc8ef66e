"""What cannot be: one line, the documented exit code, no traceback; a row that cannot be served costs no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from prune_jobs import SMALL, Stream, built, digits, predicted, statement
from support import Done, call, spawn
from torch import nn

from unlearnbench.api import UsageError
from unlearnbench.api.runtime import Classification, Ref, attach_ref
from unlearnbench_prune.method import Prune
from unlearnbench_prune.plugin import PruneParams

RUN = ("run", "--scenario", "digits-mlp-random40/v1", "--unlearner", "prune", "--no-tracking")
CLASS = ("run", "--scenario", "digits-mlp-class3/v1", "--unlearner", "prune-class", "--no-tracking")
QUICK = ("--set", "recipe.epochs=0")


def assert_one_line(done: Done, rc: int, code: str, *words: str) -> None:
    assert (done.rc, done.stderr.count("\n")) == (rc, 1), done.stderr
    assert re.match(rf"error: \[{code}\] \S", done.stderr), done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    for word in words:
        assert word in done.stderr


# -- the command line --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "rc", "code", "words"),
    [
        (("--set", "prune.split_at=head"), 3, "incompatible", ["no module head", "available: 0, 1, 2"]),
        (("--set", "prune.region_mb=0.04"), 3, "incompatible", ["96 inequalities in 64 features, 0 MB", "region_mb"]),
        (("--model", "vit-mini"), 3, "incompatible", ["prune cannot serve model vit-mini"]),
        (("--set", "prune.gate=committed"), 3, "incompatible", ["a radius would give the row itself away"]),
        (("--set", "prune.radius=0"), 2, "bad-parameter", ["prune.radius", "0 is not above 0", "auto or whole"]),
        (("--set", "prune.radius=-0.5"), 2, "bad-parameter", ["prune.radius"]),
        (("--set", "prune.radius=wide"), 2, "bad-parameter", ["prune.radius"]),
        (("--set", "prune.low=1", "--set", "prune.high=0"), 2, "bad-parameter", ["the box from 1 to 0 holds nothing"]),
        (("--set", "prune.margin=0"), 2, "bad-parameter", ["prune.margin"]),
        (("--set", "prune.sharpness=-1"), 2, "bad-parameter", ["prune.sharpness"]),
        (("--set", "prune.multi=all"), 2, "bad-parameter", ["prune.multi"]),
        (("--forget", "ids=999999"), 5, "unknown-ids", ["999999"]),
        (("--forget", "class=frog"), 2, "unknown-class", ["frog"]),
        (("--dataset", "ag-news", "--model", "bag-of-embeddings"), 3, "incompatible", ["prune", "tokens"]),
    ],
)
def test_what_does_not_fit_is_refused_before_any_work(
    tmp_path: Path, options: tuple[str, ...], rc: int, code: str, words: list[str]
) -> None:
    done = call(*RUN, *options, "--out", tmp_path / "runs")
    assert_one_line(done, rc, code, *words)
    assert not (tmp_path / "runs" / "store").exists()


@pytest.mark.parametrize(
    ("options", "rc", "code", "words"),
    [
        (("--forget", "class=frog"), 2, "unknown-class", ["frog"]),
        (("--set", "prune-class.radius=0"), 2, "bad-parameter", ["0 is not above 0"]),
        (("--set", "prune-class.sharpness=[]"), 2, "bad-parameter", ["prune-class.sharpness"]),
        (("--forget", "random=0.1"), 3, "incompatible", ["prune-class", "samples"]),
    ],
)
def test_what_does_not_fit_a_class_is_refused_before_any_work(
    tmp_path: Path, options: tuple[str, ...], rc: int, code: str, words: list[str]
) -> None:
    done = call(*CLASS, *options, "--out", tmp_path / "runs")
    assert_one_line(done, rc, code, *words)
    assert not (tmp_path / "runs" / "store").exists()


def test_a_row_outside_the_declared_box_is_one_line_in_a_process_of_its_own(tmp_path: Path) -> None:
    options = ("--set", "prune.low=0", "--set", "prune.high=0.5", *QUICK, "--out", tmp_path / "runs")
    done = spawn(*RUN, *options, cwd=tmp_path)
    assert_one_line(done, 2, "outside-box", "prune.low, prune.high", "outside the declared 0 to 0.5", "every row")
    assert not list((tmp_path / "runs").glob("*/record.json"))


# -- networks ----------------------------------------------------------------------------------------------------------


class Curved(nn.Module):
    """A bend that is no line, then a classifier part of lines."""

    def __init__(self) -> None:
        super().__init__()
        self.lift = nn.Sequential(nn.Linear(64, 16), nn.GELU())
        self.head = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.head(self.lift(x))
        return found


def curved() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return attach_ref(Curved().eval(), Ref("curved", {}, (64,), 10))


def test_a_gelu_behind_the_split_is_refused_and_one_before_it_is_not() -> None:
    for split in ("", "lift.0", "lift.1"):
        why = Prune(PruneParams(split_at=split)).check(curved(), Classification())
        assert why is not None
        assert "GELU" in why
    assert Prune(PruneParams(split_at="head")).check(curved(), Classification()) is None


def test_a_class_of_logits_that_is_no_line_is_refused_with_the_layer_by_name() -> None:
    model = built(SMALL)
    assert isinstance(model, nn.Sequential)
    model.append(nn.Softmax(1))
    why = Prune(PruneParams()).check(model, Classification())
    assert why is not None
    assert "Softmax" in why


# -- rows that cannot be served, beside others that can ----------------------------------------------------------------


def slanted(*, limit: float) -> nn.Module:
    """Two features in, three classes out; one unit is on where their sum reaches ``limit``."""
    model = built(Ref("mlp", {"hidden": [2]}, (2,), 3))
    first, last = (layer for layer in model.modules() if isinstance(layer, nn.Linear))
    with torch.no_grad():
        first.weight.copy_(torch.tensor([[1.0, 1.0], [1.0, -1.0]]))
        first.bias.copy_(torch.tensor([-limit, 0.1]))
        last.weight.copy_(torch.tensor([[2.0, -1.0], [-1.0, 1.0], [0.5, 0.5]]))
        last.bias.copy_(torch.tensor([0.1, 0.2, 0.0]))
    return model.requires_grad_(requires_grad=False)


def test_a_region_that_is_one_point_of_the_box_does_not_keep_the_others_from_being_served() -> None:
    """The first row is the corner of the box, the only point of it where the first unit is on."""
    x = torch.tensor([[1.0, 1.0], [0.1, 0.6], [0.7, 0.2], [0.0, 0.0]])
    base = slanted(limit=2.0)
    y = predicted(base, x)
    requests = Stream(base, x, y, PruneParams(gate="exact", multi="each", low=0.0, high=1.0))
    result = requests.ask(0, 1, 2)
    without = {one["row"] for one in statement(result)["uncertified"]}
    assert without <= {100}
    assert statement(result)["certified"] >= 2
    assert not (predicted(result.model, x[1:3]) == y[1:3]).any()
    assert [finding for finding in requests.verify() if not finding.fine] == []


def test_a_row_without_a_class_to_go_to_is_told_and_others_are_certified() -> None:
    """In two classes, a row that is predicted as the other one has no class left."""
    x, y = digits()
    few = (y < 2).nonzero()[:40, 0]
    x, y = x[few], y[few].clone()
    base = built(Ref("mlp", {"hidden": [4]}, (64,), 2))
    y[0] = 1 - predicted(base, x[:1])[0]
    y[1] = predicted(base, x[1:2])[0]
    result = Stream(base, x, y, PruneParams(gate="exact", multi="each", radius="auto")).ask(0, 1)
    (without,) = statement(result)["uncertified"]
    assert (without["row"], without["status"]) == (100, "empirical")
    assert without["reason"]
    assert statement(result)["certified"] == 1


def test_an_affine_map_of_a_large_network_is_refused_with_what_to_do() -> None:
    x, y = digits()
    requests = Stream(
        built(Ref("mlp", {"hidden": [700]}, (64,), 10)), x[:20], y[:20],
        PruneParams(gate="exact", multi="each", patch="affine-lp"),
    )  # fmt: skip
    with pytest.raises(UsageError, match="too-large"):
        requests.ask(0)


def test_a_patched_network_is_no_network_to_begin_with() -> None:
    done = call(*RUN, "--model", "prune-patched")
    assert done.rc == 3
    assert "prune-patched is built by its method only" in done.stderr
