"""Features on a common scale, against sums in float64 written here, and against the authors' figure on real data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from unlearnbench.api.runtime import Splits
from unlearnbench_graphs import rooms
from unlearnbench_graphs.scaling import scaled

X = np.random.default_rng(0).normal(3, 2, (40, 5)).astype(np.float32)


def test_features_as_they_are_stay_what_they_are() -> None:
    assert scaled(X, "none") is X


def test_rows_are_shares_of_their_sum_and_a_row_of_zeros_stays() -> None:
    x = np.array([[1, 3], [0, 0], [-2, 2]], dtype=np.float32)
    found = scaled(x, "rows")
    assert found.dtype == np.float32
    assert found.tolist() == [[0.25, 0.75], [0, 0], [-0.5, 0.5]]


def standardised(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    deviation = x.std(0)
    z = (x - x.mean(0)) / np.where(deviation > 0, deviation, 1)
    return z / np.sqrt((z**2).sum(1)).max()


def test_standard_is_mean_0_and_deviation_1_with_a_largest_norm_of_1() -> None:
    x = X.copy()
    x[:, 2] = 4  # a feature that says nothing
    found = scaled(x, "standard")
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, standardised(x), atol=1e-6)
    assert np.linalg.norm(found, axis=1).max() == pytest.approx(1, abs=1e-6)
    assert not found[:, 2].any()


def test_features_that_say_nothing_at_all_become_0() -> None:
    assert not scaled(np.full((3, 2), 5, dtype=np.float32), "standard").any()


@pytest.mark.parametrize("how", ["rows", "standard"])
def test_blocks_and_files_change_nothing(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = scaled(X, how)  # type: ignore[arg-type]
    monkeypatch.setattr(rooms, "BLOCK_BYTES", 7 * X[0].nbytes)
    np.testing.assert_allclose(scaled(X, how, rooms.on_disk(tmp_path)), whole, rtol=1e-6, atol=1e-7)  # type: ignore[arg-type]
    np.testing.assert_allclose(np.load(tmp_path / f"x-{how}.npy"), whole, rtol=1e-6, atol=1e-7)


def test_cora_has_the_mean_of_sums_that_the_authors_code_has(real_root: Path, load: Callable[..., Splits]) -> None:
    if not (real_root / "planetoid/Cora/raw/ind.cora.x").is_file():
        pytest.skip("the files of Planetoid's Cora are not there")
    x = load("planetoid", scale="standard").train.x.numpy().astype(np.float64)
    assert np.abs(x).sum(0).mean() == pytest.approx(7.60194, abs=5e-6)
