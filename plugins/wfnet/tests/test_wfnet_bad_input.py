"""What cannot be: one line, the documented exit code, no traceback, and nothing left behind."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support import Done, call, spawn

RUN = ("run", "--scenario", "digits-cnn-class3/v1", "--unlearner", "wfnet", "--no-tracking")


def assert_one_line(done: Done, rc: int, code: str, *words: str) -> None:
    assert (done.rc, done.stderr.count("\n")) == (rc, 1), done.stderr
    assert re.match(rf"error: \[{code}\] \S", done.stderr), done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    for word in words:
        assert word in done.stderr


def test_a_network_without_layers_to_gate_is_refused(tmp_path: Path) -> None:
    done = spawn(*RUN, "--model", "mlp", "--out", tmp_path / "runs", cwd=tmp_path)
    assert_one_line(done, 3, "incompatible", "mlp", "no convolution and no attention projection")
    assert not (tmp_path / "runs" / "store").exists()


def test_a_validation_share_that_leaves_nothing_is_refused(tmp_path: Path) -> None:
    options = ("--set", "wfnet.validation=0.0001", "--set", "recipe.epochs=0", "--out", tmp_path / "runs")
    done = spawn(*RUN, *options, cwd=tmp_path)
    assert_one_line(done, 2, "empty-validation", "wfnet.validation", "0.0001 of 1437 rows leaves 0")
    assert not list((tmp_path / "runs").glob("*/record.json"))


@pytest.mark.parametrize(
    ("options", "rc", "code", "words"),
    [
        (("--forget", "class=frog"), 2, "unknown-class", ["frog"]),
        (("--set", "wfnet.most_classes=5"), 3, "incompatible", ["10 classes take 3.8 kB", "most_classes=10"]),
        (("--set", 'wfnet.modules=["nonsense"]'), 2, "bad-parameter", ["wfnet.modules", "'nonsense'", "0, 3, 7, 9"]),
        (("--set", "wfnet.layers=attention"), 3, "incompatible", ["no attention projection"]),
        (("--set", "wfnet.validation=1"), 2, "bad-parameter", ["wfnet.validation"]),
        (("--set", "wfnet.lr=0"), 2, "bad-parameter", ["wfnet.lr"]),
        (("--forget", "random=0.1"), 3, "incompatible", ["wfnet", "samples"]),
        (("--dataset", "ag-news", "--model", "bag-of-embeddings"), 3, "incompatible", ["wfnet", "tokens"]),
    ],
)
def test_what_does_not_fit_is_refused_before_any_work(
    tmp_path: Path, options: tuple[str, ...], rc: int, code: str, words: list[str]
) -> None:
    done = call(*RUN, *options, "--out", tmp_path / "runs")
    assert_one_line(done, rc, code, *words)
    assert not (tmp_path / "runs" / "store").exists()
