"""The numbers behind the figure, by hand, and the figure as a file."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from unlearnbench.api import DataError, UsageError
from unlearnbench_wfnet.contents import FORMAT, checked
from unlearnbench_wfnet.figures import MOST_LAYERS, chosen_layers, draw, save_figure
from unlearnbench_wfnet.relations import (
    all_gates,
    binned,
    closed_by_class,
    closed_by_layer,
    filter_order,
    shared_filters,
    weight_gates,
)

OPEN, SHUT = 3.0, -5.0


def artifacts(widths: list[int], classes: list[str], *, bias: bool = True, seed: int = 0) -> dict[str, Any]:
    """Gates that are open but for a tenth of them."""
    rng = torch.Generator().manual_seed(seed)
    layers = [
        {"name": f"layers.{k}", "kind": "convolution", "width": w, "bias": bias, "norm": ""}
        for k, w in enumerate(widths)
    ]
    found: dict[str, Any] = {
        "format": FORMAT, "base": "0" * 64, "layers": layers, "classes": classes, "mask_bn": False,
        "rows": [len(classes) - 1], "harden": 0.0, "parameters": {}, "log": [],
    }  # fmt: skip
    for layer in layers:
        shape = (len(classes), layer["width"])
        for part in ("weight", "bias")[: 1 + bias]:
            closed = torch.rand(shape, generator=rng) < 0.1
            found[f"{part}/{layer['name']}"] = torch.where(closed, SHUT, OPEN) + torch.rand(shape, generator=rng)
    checked(found)
    return found


def test_gates_are_sigmoids_and_biases_stand_behind_weights() -> None:
    found = artifacts([4, 3], ["a", "b"])
    alpha = found["weight/layers.1"].double().numpy()
    assert np.allclose(weight_gates(found)["layers.1"], 1 / (1 + np.exp(-alpha)), atol=1e-12)
    both = all_gates(found)["layers.1"]
    assert both.shape == (2, 6)
    assert np.array_equal(both[:, :3], weight_gates(found)["layers.1"])
    assert all_gates(artifacts([4], ["a"], bias=False))["layers.0"].shape == (1, 4)


def test_shares_of_closed_gates_count_every_gate_once() -> None:
    found = artifacts([2, 3], ["a", "b"], bias=False)
    found["weight/layers.0"] = torch.tensor([[SHUT, OPEN], [OPEN, OPEN]])
    found["weight/layers.1"] = torch.tensor([[SHUT, -1.0, OPEN], [OPEN, -1.0, OPEN]])
    assert closed_by_class(found).tolist() == [3 / 5, 1 / 5]
    assert closed_by_class(found, 0.1).tolist() == [2 / 5, 0]  # sigmoid(-1) is 0.27
    assert closed_by_layer(found) == {"layers.0": 1 / 4, "layers.1": 3 / 6}


def test_filters_stand_by_the_class_that_closes_them_most_and_open_ones_last() -> None:
    gates = np.array(
        [
            [0.9, 0.3, 0.9, 0.1, 0.6],
            [0.2, 0.4, 0.8, 0.9, 0.9],
        ]
    )
    # class 0 closes 3 and 1, class 1 closes 0; nobody closes 4 (of class 0) and 2 (of class 1)
    assert filter_order(gates).tolist() == [3, 1, 0, 4, 2]
    assert filter_order(gates, first=1).tolist() == [0, 1, 2, 3, 4]


def test_folded_columns_are_means_of_neighbours_and_lose_no_filter() -> None:
    gates = np.arange(14.0).reshape(2, 7)
    folded, each = binned(gates, 3)
    assert each == 3
    assert folded.tolist() == [[1, 4, 6], [8, 11, 13]]
    same, one = binned(gates, 7)
    assert one == 1
    assert np.array_equal(same, gates)


def by_brute_force(alphas: list[np.ndarray[Any, Any]], one: int, other: int) -> float:
    """Shared members of sets, where no two alphas are equal and a tenth is a whole number."""
    common = total = 0
    for alpha in alphas:
        size = alpha.shape[1] // 10
        sets = [set(sorted(range(alpha.shape[1]), key=lambda f: row[f])[:size]) for row in alpha[[one, other]]]
        common += len(sets[0] & sets[1])
        total += size
    return common / total


def test_shared_filters_are_those_in_both_classes_most_closed_tenth_of_each_layer() -> None:
    rng = np.random.default_rng(0)
    alphas = [rng.normal(size=(4, 50)), rng.normal(size=(4, 30))]
    alphas[0][1] = alphas[0][0] + 0.01  # the same order in one layer
    found = shared_filters(alphas)
    for one, other in itertools.product(range(4), repeat=2):
        assert found[one, other] == pytest.approx(by_brute_force(alphas, one, other))
    assert np.array_equal(found, found.T)
    assert found[0, 1] >= 5 / 8
    assert np.allclose(np.diag(found), 1)


def test_filters_that_are_equally_closed_count_in_equal_parts_whatever_their_order() -> None:
    # a tenth of 20 is 2: row 0 has one filter that is most closed and four in the second place, a quarter each
    alpha = np.full((2, 20), OPEN)
    alpha[0, [3, 5, 7, 9]], alpha[0, 11] = -1, -2
    alpha[1, [3, 11]] = -9
    assert shared_filters([alpha])[0, 1] == pytest.approx((1 + 0.25) / 2)
    turned = np.random.default_rng(0).permutation(20)
    assert shared_filters([alpha[:, turned]])[0, 1] == pytest.approx((1 + 0.25) / 2)


def test_classes_that_close_at_random_share_a_tenth() -> None:
    rng = np.random.default_rng(1)
    found = shared_filters([rng.normal(size=(20, 1000))])
    assert found[~np.eye(20, dtype=bool)].mean() == pytest.approx(0.1, abs=0.01)


def test_of_many_layers_those_that_close_most_are_drawn_in_the_order_of_the_network_and_the_rest_is_named() -> None:
    found = artifacts([5] * (MOST_LAYERS + 2), ["a", "b"])
    for layer in range(MOST_LAYERS + 2):
        alpha = torch.full((2, 5), OPEN)
        alpha[:, : 1 if layer in (1, 4) else 2] = SHUT
        found |= {f"weight/layers.{layer}": alpha, f"bias/layers.{layer}": alpha}
    drawn, left_out = chosen_layers(found)
    assert drawn == [f"layers.{k}" for k in (0, 2, 3, 5, 6, 7, 8, 9)]
    assert left_out == ["layers.1", "layers.4"]
    title = draw(found).subfigs[0].get_suptitle()
    assert "left out: layers.1, layers.4" in title


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_the_same_gates_give_the_same_bytes_whatever_the_readers_style(tmp_path: Path, kind: str) -> None:
    import matplotlib as mpl

    found = artifacts([20], ["a", "b", "c"])
    first = save_figure(found, tmp_path / f"one.{kind}").read_bytes()
    with mpl.rc_context({"font.size": 30.0, "axes.facecolor": "black"}):
        assert save_figure(found, tmp_path / f"two.{kind}").read_bytes() == first
    assert save_figure(artifacts([20], ["a", "b", "c"], seed=1), tmp_path / f"x.{kind}").read_bytes() != first
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([f"one.{kind}", f"two.{kind}", f"x.{kind}"])


NAMES = ["$x_1$", "<b>&amp;", "with\na line", "\x1b[31mred", "\ud800", "木", "n" * 80, "ok"]


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_any_names_of_classes_and_layers_are_drawn_as_they_are(tmp_path: Path, kind: str) -> None:
    found = artifacts([8], NAMES)
    found["layers"][0]["name"] = "<svg>$a$"
    found |= {f"{part}/<svg>$a$": found.pop(f"{part}/layers.0") for part in ("weight", "bias")}
    content = save_figure(found, tmp_path / f"f.{kind}", first=1).read_bytes()
    if kind == "svg":
        root = ET.fromstring(content)
        assert not [element for element in root.iter() if element.tag.endswith("}b")]
    else:
        assert content.startswith(b"\x89PNG")


def test_one_class_and_one_filter_can_be_drawn(tmp_path: Path) -> None:
    assert save_figure(artifacts([1], ["only"], bias=False), tmp_path / "f.png").stat().st_size > 1000


def test_many_classes_and_wide_layers_are_drawn_with_fewer_names_and_folded_columns() -> None:
    figure = draw(artifacts([1200], [f"class {k}" for k in range(60)]))
    [panel] = [axes for axes in figure.subfigs[0].axes if axes.get_title(loc="left")]
    assert panel.get_title(loc="left") == "layer layers.0: 1,200 filters, a column is 3 filters"
    assert panel.images[0].get_array().shape == (60, 400)
    labels = [label.get_text() for label in panel.get_yticklabels()]
    assert labels[:2] == ["class 0", "class 4"]
    assert len(labels) <= 16


def test_a_class_that_is_asked_for_orders_the_filters_and_is_framed() -> None:
    found = artifacts([12], ["a", "b", "c"])
    figure = draw(found, first=2)
    panel = figure.subfigs[0].axes[0]
    shown = np.asarray(panel.images[0].get_array())
    assert np.array_equal(shown[2], np.sort(weight_gates(found)["layers.0"][2]))
    [frame] = [patch for patch in panel.patches if patch.get_y() == 2]
    assert frame.get_width() == 12
    assert "by the gates of class c;" in figure.subfigs[0].get_suptitle()


def test_the_matrix_shows_what_classes_share_and_nothing_of_a_class_with_itself() -> None:
    found = artifacts([40], ["a", "b", "c"])
    axes = draw(found).subfigs[1].axes[0]
    shown = np.ma.filled(axes.images[0].get_array().astype(float), np.nan)
    expected = shared_filters([found["weight/layers.0"].double().numpy()])
    assert np.isnan(np.diag(shown)).all()
    assert shown[0, 1] == expected[0, 1]
    written = [text.get_text() for text in axes.texts]
    assert written == [f"{100 * expected[y, x]:.0f}" for y in range(3) for x in range(3) if x != y]


def test_bars_are_the_shares_of_closed_gates_and_what_is_forgotten_is_hatched() -> None:
    found = artifacts([40], ["a", "b", "c"])
    axes = draw(found).subfigs[1].axes[1]
    assert [bar.get_width() for bar in axes.patches] == pytest.approx((100 * closed_by_class(found)).tolist())
    assert [bool(bar.get_hatch()) for bar in axes.patches] == [False, False, True]


def test_a_figure_of_another_kind_or_in_no_folder_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"ends neither in \.svg nor in \.png"):
        save_figure(artifacts([3], ["a"]), tmp_path / "f.pdf")
    with pytest.raises(DataError) as refused:
        save_figure(artifacts([3], ["a"]), tmp_path / "nowhere" / "f.svg")
    assert refused.value.code == "cannot-write"
    assert list(tmp_path.iterdir()) == []
