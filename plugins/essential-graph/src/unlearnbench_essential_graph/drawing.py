"""The essential graph as a picture: layers are columns in the order of the network, channels are dots.

A dot's colour says who selects the channel: a forgotten target, retained targets, or both; a ring says that it is
pruned. Lines are the graph's edges, which join what one target selects in consecutive layers; where there are more of
a kind than can be told apart, their number is written instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import ceil
from typing import NamedTuple
from xml.etree.ElementTree import Element, SubElement, tostring

from torch import Tensor

from unlearnbench_essential_graph.graph import Graph, Layer

FORGOTTEN, RETAINED, BOTH, NONE, INK = "#d55e00", "#0072b2", "#009e73", "#d0d0d0", "#222222"
"""Colours that differ for colour-blind eyes too (after Okabe and Ito)."""
ROWS = 128
"""Dots in a column at most; a layer with more channels has several columns side by side."""
LINES = 2000
"""Edges of a kind between two layers that are drawn at most."""
STEP, WIDEST, LEAST_HEIGHT = 7.0, 16.0, 300.0
"""Pixels from dot to dot, at least and at most, and of the tallest column at least."""
LEFT, TOP, PITCH, BELOW = 84.0, 188.0, 164.0, 46.0
"""Pixels: centre of the first column, first dot, from layer to layer, and below the dots."""
LONGEST = 22
"""Characters of a layer's name that fit above its column."""
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_KINDS = {
    "forgotten": (FORGOTTEN, "a forgotten target"), "retained": (RETAINED, "retained targets"), "both": (BOTH, "both"),
    "none": (NONE, "no target"),
}  # fmt: skip


class Place(NamedTuple):
    """Where a layer is drawn: the centre of its first column and dot, the step from dot to dot, and its columns."""

    x: float
    y: float
    step: float
    columns: int

    def dot(self, channel: int) -> tuple[float, float]:
        """Centre of a channel's dot."""
        column, row = divmod(channel, ROWS)
        return self.x + column * STEP, self.y + row * self.step


def draw(graph: Graph) -> str:
    """The picture of a graph as SVG."""
    places, width, height = _places(graph)
    size = {"width": f"{width:.0f}", "height": f"{height:.0f}", "viewBox": f"0 0 {width:.0f} {height:.0f}"}
    svg = Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "font-family": "Helvetica, Arial, sans-serif", **size})
    SubElement(svg, "title").text = _plain(_title(graph))
    SubElement(svg, "rect", {"width": "100%", "height": "100%", "fill": "#ffffff"})
    _text(svg, 24, 34, _title(graph), size=20, weight="bold")
    _text(svg, 24, 56, _settings(graph), size=13)
    _legend(svg)
    _edges(svg, graph, places)
    for layer, place in zip(graph.layers, places, strict=True):
        _column(svg, graph, layer, place)
    return tostring(svg, encoding="unicode") + "\n"


def _places(graph: Graph) -> tuple[list[Place], float, float]:
    """Places of the layers, and width and height of the picture."""
    rows = [min(ROWS, layer.channels) for layer in graph.layers]
    high = max(LEAST_HEIGHT, STEP * max(rows))
    places, x = [], LEFT
    for layer, count in zip(graph.layers, rows, strict=True):
        step = min(WIDEST, high / count)
        columns = ceil(layer.channels / ROWS)
        places.append(Place(x, TOP + (high - step * (count - 1)) / 2, step, columns))
        x += PITCH + (columns - 1) * STEP
    return places, max(x - PITCH + LEFT, 780.0), TOP + high + BELOW


def _title(graph: Graph) -> str:
    kept = [name for name in graph.targets if name not in graph.forgotten]
    return f"Essential graph: forget {', '.join(graph.forgotten) or 'nothing'}; keep {', '.join(kept) or 'nothing'}"


def _settings(graph: Graph) -> str:
    pruned = sum(int(layer.pruned.sum()) for layer in graph.layers)
    channels = sum(layer.channels for layer in graph.layers)
    told = ", ".join(f"{name} {value}" for name, value in graph.settings.items())
    return f"{pruned} of {channels} channels are pruned" + (f"; {told}" if told else "")


def _legend(svg: Element) -> None:
    group = SubElement(svg, "g", {"class": "legend"})
    _text(group, 24, 82, "selected by")
    x = 106.0
    for colour, words in _KINDS.values():
        SubElement(group, "circle", {"cx": f"{x}", "cy": "78", "r": "4.5", "fill": colour})
        _text(group, x + 10, 82, words)
        x += 34 + 6.2 * len(words)
    SubElement(group, "circle", _ring(x, 78, 4.5, FORGOTTEN))
    _text(group, x + 10, 82, "pruned (ring)")
    _text(group, 24, 104, "edges of")
    for x, colour, words in ((106.0, FORGOTTEN, "forgotten targets"), (250.0, RETAINED, "retained targets")):
        SubElement(group, "path", {"d": f"M{x - 6} 100L{x + 16} 100", "stroke": colour, "stroke-width": "1.2"})
        _text(group, x + 24, 104, words)


def _edges(svg: Element, graph: Graph, places: list[Place]) -> None:
    gone = graph.is_forgotten
    for at in range(len(places) - 1):
        pair = (places[at], places[at + 1])
        for colour, targets, shift in ((RETAINED, ~gone, 12), (FORGOTTEN, gone, 28)):
            joined = graph.joined(at, targets).nonzero()
            if len(joined) > LINES:
                middle = (pair[0].x + pair[1].x) / 2
                low = TOP + max(LEAST_HEIGHT, STEP * max(min(ROWS, layer.channels) for layer in graph.layers))
                words = f"{len(joined):,} edges, not drawn"
                _text(svg, middle, low + shift, words, colour=colour, size=11, anchor="middle")
            elif len(joined):
                opacity = max(0.1, min(0.5, 150 / len(joined)))
                form = {"fill": "none", "stroke": colour, "stroke-width": "0.6", "stroke-opacity": f"{opacity:.2f}"}
                SubElement(svg, "path", {"class": "edges", "d": _lines(joined, *pair), **form})


def _lines(joined: Tensor, one: Place, other: Place) -> str:
    def line(source: int, target: int) -> str:
        (x, y), (u, v) = one.dot(source), other.dot(target)
        return f"M{x:.1f} {y:.1f}L{u:.1f} {v:.1f}"

    return "".join(line(source, target) for source, target in joined.tolist())


def _column(svg: Element, graph: Graph, layer: Layer, place: Place) -> None:
    group = SubElement(svg, "g", {"class": "layer"})
    SubElement(group, "title").text = _plain(layer.name)
    middle = place.x + (place.columns - 1) * STEP / 2
    short = layer.name if len(layer.name) <= LONGEST else f"...{layer.name[3 - LONGEST :]}"
    _text(group, middle, TOP - 52, short, weight="bold", anchor="middle")
    _text(group, middle, TOP - 36, f"{layer.channels} channels", size=11, anchor="middle")
    pruned = int(layer.pruned.sum())
    _text(group, middle, TOP - 21, f"{pruned} pruned" if pruned else "none pruned", size=11, anchor="middle")
    # Grey dots first: they are small, and a coloured dot beside them should lie on top.
    for kind, channel in sorted(_marked(graph, layer), key=lambda found: found[0] != "none"):
        x, y = place.dot(channel)
        chosen, gone = kind != "none", bool(layer.pruned[channel])
        radius = (0.5 * STEP if chosen else 0.25 * STEP) * min(1.4, place.step / STEP)
        form = _ring(x, y, radius, _KINDS[kind][0]) if gone else _dot(x, y, radius, _KINDS[kind][0])
        node = SubElement(group, "circle", {"class": f"node {kind}{' pruned' if gone else ''}", **form})
        SubElement(node, "title").text = _plain(_told(graph, layer, channel))


def _marked(graph: Graph, layer: Layer) -> Iterator[tuple[str, int]]:
    gone, kept = (found.tolist() for found in graph.kinds(layer))
    for channel, (forgotten, retained) in enumerate(zip(gone, kept, strict=True)):
        yield {(1, 0): "forgotten", (0, 1): "retained", (1, 1): "both"}.get((forgotten, retained), "none"), channel


def _told(graph: Graph, layer: Layer, channel: int) -> str:
    values = layer.values[:, channel].tolist()
    votes = ", ".join(f"{name} {value:+d}" for name, value in zip(graph.targets, values, strict=True) if value)
    pruned = "; pruned" if bool(layer.pruned[channel]) else ""
    return f"{layer.name}, channel {channel}: {votes or 'not selected'}; sum {sum(values)}{pruned}"


def _dot(x: float, y: float, radius: float, colour: str) -> dict[str, str]:
    return {"cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": f"{radius:.1f}", "fill": colour}


def _ring(x: float, y: float, radius: float, colour: str) -> dict[str, str]:
    return {**_dot(x, y, radius, colour), "stroke": INK, "stroke-width": "1.4"}


def _text(
    parent: Element, x: float, y: float, text: str, *, size: int = 12, weight: str = "", anchor: str = "",
    colour: str = INK,
) -> None:  # fmt: skip
    more = {name: value for name, value in (("font-weight", weight), ("text-anchor", anchor)) if value}
    place = {"x": f"{x:.1f}", "y": f"{y:.1f}", "font-size": f"{size}", "fill": colour, **more}
    SubElement(parent, "text", place).text = _plain(text)


def _plain(text: str) -> str:
    """A text without the signs that XML has no way to write; the others are escaped where the tree is written."""
    return _NO_XML.sub("\ufffd", text)
