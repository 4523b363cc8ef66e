"""The drawing: XML that parses, a dot for every channel, colours and rings by who selects it, and names escaped."""

from __future__ import annotations

from collections import Counter
from xml.etree.ElementTree import Element, fromstring

import pytest
import torch

from unlearnbench_essential_graph.drawing import LINES, ROWS, draw
from unlearnbench_essential_graph.graph import Graph, Layer, node_values

SVG = "{http://www.w3.org/2000/svg}"


def made(channels: tuple[int, ...], names: tuple[str, ...] = (), delta: float = 0.2) -> Graph:
    """A random graph of three targets, the second forgotten, pruned by the strict vote."""
    rng = torch.Generator().manual_seed(0)
    forgotten = torch.tensor([False, True, False])
    layers = []
    for place, count in enumerate(channels):
        score = torch.rand(3, count, generator=rng)
        chosen = score.argsort(1)[:, : max(1, int(delta * count))]
        selected = torch.zeros(3, count, dtype=torch.bool).scatter(1, chosen, True)
        pruned = selected[1] & ~selected[~forgotten].any(0)
        name = names[place] if names else f"conv{place + 1}"
        layers.append(Layer(name, node_values(selected, forgotten), pruned))
    return Graph(tuple(layers), ("a", "b", "c"), ("b",), {"sigma": len(channels), "delta": delta})


def dots(root: Element) -> list[Element]:
    return [circle for circle in root.iter(f"{SVG}circle") if "node" in circle.get("class", "").split()]


def kind(dot: Element) -> str:
    return dot.get("class", "").split()[1]


def texts(root: Element) -> list[str]:
    return [text.text or "" for text in root.iter(f"{SVG}text")]


def told(dot: Element) -> str:
    title = dot.find(f"{SVG}title")
    assert title is not None
    assert title.text
    return title.text


def test_every_channel_has_a_dot_in_the_colour_of_who_selects_it() -> None:
    graph = made((16, 32, 128))
    found = dots(fromstring(draw(graph)))
    wanted: Counter[str] = Counter()
    for layer in graph.layers:
        gone, kept = graph.kinds(layer)
        wanted += Counter(
            forgotten=int((gone & ~kept).sum()),
            retained=int((kept & ~gone).sum()),
            both=int((gone & kept).sum()),
            none=int((~gone & ~kept).sum()),
        )
    assert Counter(map(kind, found)) == wanted
    assert len({(kind(dot), dot.get("fill")) for dot in found}) == 4
    selected = sum(1 for dot in found if kind(dot) != "none")
    assert selected == sum(1 for _ in graph.nodes()) > 20


def test_pruned_channels_and_no_others_have_a_ring() -> None:
    graph = made((16, 32, 64))
    rings = [dot for dot in dots(fromstring(draw(graph))) if dot.get("stroke")]
    wanted = {f"{a.name}, channel {k}" for a in graph.layers for k in a.pruned.nonzero()[:, 0].tolist()}
    assert wanted
    assert {told(dot).split(":")[0] for dot in rings} == wanted
    assert all(told(dot).endswith("; pruned") for dot in rings)


def test_layers_are_columns_in_the_order_of_the_network() -> None:
    graph = made((8, 16, 4))
    found = dots(fromstring(draw(graph)))
    columns = {
        layer.name: {dot.get("cx") for dot in found if told(dot).startswith(layer.name)} for layer in graph.layers
    }
    assert [len(column) for column in columns.values()] == [1, 1, 1]
    places = [float(next(iter(column)) or 0) for column in columns.values()]
    assert places == sorted(places)


@pytest.mark.parametrize("channels", [(128,) * 6, (16, 32, 512)])
def test_no_two_dots_touch_and_all_lie_in_the_picture(channels: tuple[int, ...]) -> None:
    root = fromstring(draw(made(channels)))
    found = dots(root)
    places = torch.tensor([[float(dot.get(key, "nan")) for key in ("cx", "cy", "r")] for dot in found])
    apart = torch.cdist(places[:, :2], places[:, :2]) + 1e6 * torch.eye(len(found))
    touching = places[:, 2, None] + places[None, :, 2]
    assert bool((apart >= touching - 0.11).all())  # coordinates are rounded to a tenth
    width, height = (float(root.get(key, "nan")) for key in ("width", "height"))
    assert float(places[:, 0].max()) + 6 < width
    assert float(places[:, 1].max()) + 6 < height
    assert len(found) == sum(channels)


def test_a_layer_with_many_channels_has_several_columns() -> None:
    found = dots(fromstring(draw(made((16, 3 * ROWS)))))
    assert len({dot.get("cx") for dot in found}) == 4


def test_edges_are_lines_and_as_many_as_the_graph_has() -> None:
    graph = made((16, 32, 64))
    lines = [path for path in fromstring(draw(graph)).iter(f"{SVG}path") if path.get("class") == "edges"]
    gone = graph.is_forgotten
    wanted = [int(graph.joined(place, targets).sum()) for place in (0, 1) for targets in (~gone, gone)]
    assert [path.get("d", "").count("M") for path in lines] == wanted
    assert sum(len(edge.of) > 0 for edge in graph.edges()) <= sum(wanted)


def test_more_edges_than_can_be_told_apart_are_a_number() -> None:
    graph = made((256, 256), delta=0.4)
    root = fromstring(draw(graph))
    assert not [path for path in root.iter(f"{SVG}path") if path.get("class") == "edges"]
    count = int(graph.joined(0, graph.is_forgotten).sum())
    assert count == 102**2 > LINES
    assert f"{count:,} edges, not drawn" in texts(root)


def test_names_from_anybody_are_escaped_and_signs_that_xml_does_not_know_are_replaced() -> None:
    nasty = '</text><script>alert("&")</script>'
    graph = made((8, 8), ("\x00a\x1b[31m", nasty))
    graph = Graph(graph.layers, (nasty, "b&\ud800", "c\uffff"), ("b&\ud800",), {"sigma": "<b>"})
    svg = draw(graph)
    assert "<script" not in svg
    svg.encode("utf-8")
    root = fromstring(svg)
    assert any(nasty in text for text in texts(root))
    assert not list(root.iter("script"))


def test_it_says_what_is_forgotten_how_much_is_pruned_and_what_colours_mean() -> None:
    graph = made((16, 32))
    found = texts(fromstring(draw(graph)))
    pruned = sum(int(layer.pruned.sum()) for layer in graph.layers)
    assert found[0] == "Essential graph: forget b; keep a, c"
    assert found[1] == f"{pruned} of 48 channels are pruned; sigma 2, delta 0.2"
    legend = {"a forgotten target", "retained targets", "both", "no target", "pruned (ring)"}
    assert legend <= set(found)
    assert {"conv1", "conv2", "16 channels", "32 channels"} <= set(found)


def test_the_same_graph_is_the_same_file() -> None:
    assert draw(made((16, 32))) == draw(made((16, 32)))
