"""PRUNE: a wrapper that names its base, restored from the store, with a certificate that a measure verifies."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from toys_support import SAMPLES, images, new_stages, one_record, run_toys

from unlearnbench.api import IncompatibleError
from unlearnbench.api.runtime import Ref
from unlearnbench.store import Entry

STREAM = (SAMPLES, {**SAMPLES, "seed": 1}, {**SAMPLES, "seed": 2})
CPU = torch.device("cpu")


def test_the_ref_of_the_wrapper_holds_the_base_and_the_base_keeps_its_weights(tmp_path: Path) -> None:
    spec, stages = images("toy-prune", *STREAM), new_stages(tmp_path)
    original = stages.original(spec)
    assert original.ref is not None
    for step in range(3):
        unlearned = stages.unlearned(spec, step)
        assert unlearned.ref is not None
        assert unlearned.ref.name == "toy-patched"
        assert unlearned.ref.params["patches"] == 8 * (step + 1)
        assert Ref.from_json(unlearned.ref.to_json()["params"]["base"]) == original.ref
        for name, weight in original.weights.items():
            assert torch.equal(unlearned.weights[f"base.{name}"], weight)


def test_a_wrapper_restored_from_the_store_gives_equal_outputs(tmp_path: Path) -> None:
    spec, live = images("toy-prune", *STREAM), new_stages(tmp_path)
    x = live.scene(spec).splits.train.x
    models = [live.network(live.unlearned(spec, 2), CPU)]
    later = new_stages(tmp_path)
    models.append(later.network(later.unlearned(spec, 2), CPU))
    assert later.computed == []
    with torch.no_grad():
        one, other = (model(x) for model in models)
        bare = live.network(live.original(spec), CPU)(x)
    assert torch.equal(one, other)
    redirected = (one != bare).any(1)
    forgotten = live.scene(spec).parts[2].measured["forget"].index
    assert set(redirected.nonzero()[:, 0].tolist()) == set(forgotten.tolist())


def test_the_verifier_accepts_all_requests_so_far(tmp_path: Path) -> None:
    record = one_record(tmp_path, images("toy-prune", *STREAM, measures=["accuracy", "toy-redirect-check"]))
    certified = [r for r in record.readings if r["name"] == "certified" and r["subject"] == "unlearned"]
    assert [(r["value"], r["n"]) for r in certified] == [(1.0, 8), (1.0, 16), (1.0, 24)]
    assert [r["status"] for r in record.readings if r["key"] == "certified.request=2"] == [
        "no certificate",
        "no certificate",
        "ok",
    ]
    assert record.value("accuracy.forget.request=2") == 0.0
    assert len(record.document["certificate"]["served"]) == 24


@pytest.mark.parametrize(
    ("forge", "certified"),
    [
        pytest.param(lambda e: e, 1.0, id="nothing"),
        pytest.param(lambda e: replace(e, weights={**e.weights, "shifts": e.weights["shifts"] / 2}), 0.0, id="model"),
        pytest.param(lambda e: replace(e, certificate={**e.certificate, "radius": 10.0}), 0.0, id="radius"),
        # A certificate that speaks about half of what was requested is worth half, not everything.
        pytest.param(lambda e: replace(e, certificate={**e.certificate, "served": e.certificate["served"][:8]}), 0.5,
                     id="half of the requests"),
    ],
)  # fmt: skip
def test_the_verifier_refuses_what_does_not_hold(
    tmp_path: Path, forge: Callable[[Entry], Entry], certified: float
) -> None:
    spec = images("toy-prune", *STREAM[:2], measures=["toy-redirect-check"])
    stages = new_stages(tmp_path / "store")
    honest = stages.unlearned(spec, 1)
    stages.store.drop("unlearn", honest.key)
    stages.store.put("unlearn", forge(honest))
    assert one_record(tmp_path, spec).value("certified.request=1") == certified


def test_convolutions_are_refused_with_the_reason_before_anything_is_stored_as_unlearned(tmp_path: Path) -> None:
    with pytest.raises(IncompatibleError, match="toy-prune cannot serve model toy-cnn: it has a Conv2d") as refused:
        run_toys(tmp_path, images("toy-prune", model="toy-cnn"))
    assert refused.value.exit_code == 3
    assert not (tmp_path / "store" / "unlearn").exists()


def test_a_wrapper_is_not_a_model_to_begin_with(tmp_path: Path) -> None:
    with pytest.raises(IncompatibleError, match="toy-patched is built by its method only"):
        run_toys(tmp_path, images("identity", model="toy-patched"))
