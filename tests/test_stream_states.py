"""States of a stream that are too large to copy: handed on, stored now and then, worked out again; always the same."""

from pathlib import Path

import pytest
import torch
from toys_support import EDGES, graph, new_stages, one_record, same_weights

from unlearnbench import entries
from unlearnbench.api.runtime import State
from unlearnbench.spec import RunSpec
from unlearnbench.stages import Stages
from unlearnbench.store import Store
from unlearnbench.unlearners import stages_of

STREAM = [{**EDGES, "seed": seed} for seed in range(7)]
LAST = len(STREAM) - 1
STORED = {2, 5, LAST}
"""Requests after which a state is stored, every third and the last."""


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every state counts as large, and every third is stored."""
    monkeypatch.setattr(entries, "SMALL_BYTES", 0)
    monkeypatch.setattr(entries, "STORED_EVERY", 3)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunSpec, Stages]:
    """The same stream with states that are copied and kept, served to its end."""
    spec, stages = stream(), new_stages(tmp_path_factory.mktemp("small"))
    stages.unlearned(spec, LAST)
    return spec, stages


def stream(rmax: float = 0.01) -> RunSpec:
    """With a threshold, the state depends on the way it took: that it is right says that it went the same way."""
    return graph("toy-scalegun", *STREAM, set={"toy-scalegun.rmax": rmax}, measure_every=len(STREAM))


def assert_as_small(stages: Stages, small: tuple[RunSpec, Stages]) -> None:
    spec, expected = small
    for step in range(len(STREAM)):
        mine, theirs = stages.unlearned(spec, step), expected.unlearned(spec, step)
        assert same_weights(mine, theirs)
        assert mine.certificate == theirs.certificate
    found = stages.store.get("unlearn", stages.unlearned(spec, LAST).key)
    assert found is not None
    assert_same_state(found.state, expected.unlearned(spec, LAST).state)


def assert_same_state(one: State | None, other: State | None) -> None:
    assert one is not None
    assert other is not None
    assert one.meta == other.meta
    assert set(one.tensors) == set(other.tensors)
    assert one.tensors
    assert all(torch.equal(tensor, other.tensors[name]) for name, tensor in one.tensors.items())


def test_a_small_state_is_kept_after_every_request(small: tuple[RunSpec, Stages]) -> None:
    spec, stages = small
    assert all(stages.unlearned(spec, step).state is not None for step in range(len(STREAM)))


@pytest.mark.usefixtures("large")
def test_a_stream_of_large_states_served_in_a_go_is_the_one_of_small_states(
    tmp_path: Path, small: tuple[RunSpec, Stages]
) -> None:
    stages = new_stages(tmp_path)
    stages.unlearned(small[0], LAST)
    assert stages.computed == ["train", "prepare", *["unlearn"] * len(STREAM)]
    assert_as_small(stages, small)


@pytest.mark.usefixtures("large")
def test_a_large_state_is_not_in_memory_and_on_disk_only_now_and_then(tmp_path: Path) -> None:
    spec, stages = stream(), new_stages(tmp_path)
    stages.unlearned(spec, LAST)
    (prepared,) = stages.prepared(spec)
    assert prepared is not None
    assert prepared.state is None
    assert stages.store.get("prepare", prepared.key).state is not None  # type: ignore[union-attr]
    stored = set()
    for step in range(len(STREAM)):
        entry = stages.unlearned(spec, step)
        assert entry.state is None
        on_disk = stages.store.get("unlearn", entry.key)
        assert on_disk is not None
        stored |= {step} if on_disk.state is not None else set()
    assert stored == STORED


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("kept", range(len(STREAM)))
def test_a_stream_of_large_states_goes_on_from_what_is_stored(
    tmp_path: Path, kept: int, small: tuple[RunSpec, Stages]
) -> None:
    spec, first = stream(), new_stages(tmp_path)
    keys = [first.unlearned(spec, step).key for step in range(len(STREAM))]
    for key in keys[kept:]:
        Store(tmp_path).drop("unlearn", key)
    resumed = new_stages(tmp_path)
    resumed.unlearned(spec, LAST)
    assert resumed.computed == ["unlearn"] * (len(STREAM) - kept)
    assert_as_small(resumed, small)


@pytest.mark.usefixtures("large")
def test_a_stage_finds_the_state_of_any_request_as_a_private_copy(
    tmp_path: Path, small: tuple[RunSpec, Stages]
) -> None:
    spec, expected = small
    stages = new_stages(tmp_path)
    stages.unlearned(spec, LAST)
    (stage,) = stages_of(stages.registry, spec.unlearner)
    for step in range(len(STREAM)):
        spoilt = stages.fresh_state(spec, step, stage)
        for tensor in spoilt.tensors.values():
            tensor.zero_()
        assert_same_state(stages.fresh_state(spec, step, stage), expected.fresh_state(spec, step, stage))
    assert_as_small(stages, small)


@pytest.mark.usefixtures("large")
def test_two_streams_that_take_turns_do_not_get_each_others_states(
    tmp_path: Path, small: tuple[RunSpec, Stages]
) -> None:
    one, other, stages = stream(), stream(rmax=0.05), new_stages(tmp_path / "turns")
    for step in range(len(STREAM)):
        stages.unlearned(one, step)
        stages.unlearned(other, step)
    assert_as_small(stages, small)
    alone = new_stages(tmp_path / "alone").unlearned(other, LAST)
    assert same_weights(stages.unlearned(other, LAST), alone)


@pytest.mark.usefixtures("large")
def test_a_phase_that_is_observed_leaves_the_state_that_is_handed_on_as_it_was(
    tmp_path: Path, small: tuple[RunSpec, Stages]
) -> None:
    spec, stages = stream(), new_stages(tmp_path)
    for step in range(len(STREAM)):
        stages.unlearned(spec, step)
        stages.again(spec, step, "unlearn")[1]()
    assert_as_small(stages, small)


def test_the_record_of_a_stream_does_not_depend_on_how_states_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = one_record(tmp_path / "small", stream())
    monkeypatch.setattr(entries, "SMALL_BYTES", 0)
    monkeypatch.setattr(entries, "STORED_EVERY", 3)
    handed_on = one_record(tmp_path / "large", stream())
    assert copied.document["digest"] == handed_on.document["digest"]
