"""The same spec gives the same bits: live or resumed from the store, here or in another process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from toys_support import CLASS, EDGES, SAMPLES, TOYS, graph, images, new_stages, same_weights, scenes

from unlearnbench.spec import RunSpec
from unlearnbench.store import Entry

MORE = {**SAMPLES, "seed": 1}
OTHER_CLASS = {"kind": "class", "classes": ["5"]}
RED, BLUE = {"kind": "target", "targets": ["red"]}, {"kind": "target", "targets": ["blue"]}
NODES = {"kind": "nodes", "count": 3}

STREAMS = {
    "sisa": lambda: images("toy-sisa", SAMPLES, MORE, CLASS),
    "wfnet": lambda: images("toy-wfnet", CLASS, OTHER_CLASS, model="toy-cnn"),
    "prune": lambda: images("toy-prune", SAMPLES, MORE, CLASS),
    "essential": lambda: scenes("toy-essential+toy-finetune", "multi-label", RED, BLUE),
    "scalegun": lambda: graph("toy-scalegun", EDGES, NODES, {**EDGES, "seed": 1}),
    "dropout": lambda: dropout("toy-finetune", SAMPLES, MORE),
}


def dropout(unlearner: str, *requests: dict[str, object]) -> RunSpec:
    return images(unlearner, *requests, model={"name": "toy-mlp", "params": {"dropout": 0.5}})


def assert_same(one: Entry, other: Entry) -> None:
    assert same_weights(one, other)
    assert one.ref == other.ref
    assert one.certificate == other.certificate
    assert one.state is not None
    assert other.state is not None
    assert one.state.meta == other.state.meta
    for mine, theirs in ((one.state.tensors, other.state.tensors), (one.mask or {}, other.mask or {})):
        assert set(mine) == set(theirs)
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.parametrize("system", STREAMS)
def test_a_stream_resumed_from_the_store_is_the_live_stream(tmp_path: Path, system: str) -> None:
    spec = STREAMS[system]()
    live = new_stages(tmp_path / "live")
    last = len(spec.requests) - 1
    expected = live.unlearned(spec, last)
    for step in range(last + 1):
        resumed = new_stages(tmp_path / "stored")
        found = resumed.unlearned(spec, step)
        assert resumed.computed.count("unlearn") == 1
    assert_same(expected, found)
    reader = new_stages(tmp_path / "stored")
    assert_same(expected, reader.unlearned(spec, last))
    assert reader.computed == []


_CHILD = """
import json, sys
from pathlib import Path
from toys_support import new_stages
from unlearnbench.spec import RunSpec
stages = new_stages(Path(sys.argv[1]))
for document in json.load(sys.stdin):
    spec = RunSpec.from_json(document)
    last = len(spec.requests) - 1
    models = [stages.original(spec), stages.gold(spec, last), stages.unlearned(spec, last)]
    print(json.dumps([spec.to_json(), [m.weights_sha256 for m in models]]))
"""


def test_a_spec_sent_as_json_to_a_new_process_gives_the_same_weights(tmp_path: Path) -> None:
    specs = [make() for make in STREAMS.values()]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    child = subprocess.run(
        [sys.executable, "-c", _CHILD, str(tmp_path / "there")],
        input=json.dumps([spec.to_json() for spec in specs]),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr[-2000:]
    answers = [json.loads(line) for line in child.stdout.splitlines()]
    assert len(answers) == len(specs)
    stages = new_stages(tmp_path / "here")
    for spec, (document, digests) in zip(specs, answers, strict=True):
        last = len(spec.requests) - 1
        models = [stages.original(spec), stages.gold(spec, last), stages.unlearned(spec, last)]
        assert document == spec.to_json()
        assert digests == [model.weights_sha256 for model in models], spec.unlearner.name


def test_dropout_draws_from_the_job_and_not_from_global_state(tmp_path: Path) -> None:
    spec = dropout("toy-finetune", SAMPLES)
    first = new_stages(tmp_path / "first").unlearned(spec)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(12345)
        before = torch.get_rng_state()
        second = new_stages(tmp_path / "second").unlearned(spec)
        assert torch.equal(before, torch.get_rng_state())
    assert same_weights(first, second)
    without = new_stages(tmp_path / "third").unlearned(images("toy-finetune"))
    assert first.weights_sha256 != without.weights_sha256


def test_every_component_of_the_toys_imports_the_api_and_nothing_else_of_the_host() -> None:
    allowed = ("unlearnbench.api", "unlearnbench.api.runtime", "unlearnbench.api.specs", "unlearnbench_toys")
    for path in TOYS.rglob("*.py"):
        for line in path.read_text("utf-8").splitlines():
            word, _, rest = line.strip().partition(" ")
            if word in ("from", "import") and rest.startswith("unlearnbench"):
                module = rest.split()[0]
                assert module in allowed or module.startswith("unlearnbench_toys."), f"{path.name}: {line}"
