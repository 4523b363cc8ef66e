"""From images to tables, and from mistakes to one line, through the command line in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import assert_one_error, call


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A run on digits; its records are below the folder."""
    return subprocess.run(
        [sys.executable, "-m", "unlearnbench", "run", "--dataset", "digits", "--forget", "class=3", "-u", "finetune",
         "--no-tracking", "--json", "--out", str(folder / "runs"), *arguments],
        capture_output=True, text=True, check=False, timeout=300, cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HTTPS_PROXY": "http://127.0.0.1:9"},
    )  # fmt: skip


def accuracy(record: dict[str, Any], key: str, subject: str) -> float:
    (found,) = [r for r in record["readings"] if (r["key"], r["subject"]) == (key, subject)]
    return float(found["value"])


def test_a_small_transformer_learns_digits_and_forgets_a_class(tmp_path: Path) -> None:
    recipe = [f"--set=recipe.{one}" for one in
              ("epochs=12", "lr=0.005", "batch_size=32", "optimizer=adamw", "schedule=cosine")]  # fmt: skip
    done = run(tmp_path, "--model", "vit-mini", "--set=vit-mini.patch_size=2", "--set=vit-mini.depth=1",
               "--set=vit-mini.dim=32", *recipe, "--set=finetune.epochs=2", "--set=finetune.lr=0.01")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    (record,) = json.loads(done.stdout)
    assert record["status"] == "complete"
    assert accuracy(record, "accuracy.test", "original") >= 0.8
    assert accuracy(record, "accuracy.forget", "gold") == 0
    assert accuracy(record, "accuracy.retain", "unlearned") >= 0.8


@pytest.mark.parametrize(
    ("arguments", "code", "status", "advice"),
    [
        (["--model=vit-mini", "--set=vit-mini.patch_size=3"], "bad-model", 2, "--set vit-mini.patch_size=1"),
        (["--model=timm-model", "--set=timm-model.architecture=resnet81"], "bad-parameter", 2, "did you mean"),
        (["--model=timm-model", "--set=timm-model.architecture=resnet10t", "--set=timm-model.pretrained=true"],
         "missing-file", 5, "hf download timm/resnet10t."),
    ],
)  # fmt: skip
def test_what_cannot_be_built_is_one_line_with_the_documented_exit_status(
    tmp_path: Path, arguments: list[str], code: str, status: int, advice: str
) -> None:
    out = tmp_path / "runs"
    done = call(
        "run", "--dataset=digits", "--forget=class=3", "-u", "finetune", "--no-tracking", "--out", out, *arguments
    )
    assert_one_error(done, status, code, advice)
    assert not list(out.rglob("record.json"))
