"""Drawings as SVG that stands in a page: its colours, no identifiers that could meet, the same bytes every time."""

from __future__ import annotations

import io
import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 4.0
"""Inches. So narrow that text keeps its size on a phone."""
SERIES = ("c1", "c2", "c3", "c4", "c5", "c6")
"""Variables of the page's style sheet that tell unlearners apart."""
SCALE = tuple(f"h{step}" for step in range(10))
"""Those of a scale, from low to high, of one hue and in even steps of lightness.

Text in the colour ``ink`` is legible on the lower half of it, ``paper`` on the upper half, light and dark.
"""
COLOURS = ("ink", "muted", "grid", "paper", *SERIES, *SCALE)
SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "unlearnbench",
    "svg.fonttype": "none",  # text stays text: a reader can search and copy it, and the page's font draws it
    "font.family": "DejaVu Sans",
    "font.size": 10.5,
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "axes.grid": True,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 10.5,
    "lines.linewidth": 1.8,
    "lines.markersize": 5.0,
    "axes.formatter.useoffset": False,
}
_CODES = {f"#0a00{place:02x}": name for place, name in enumerate(COLOURS)}
_CODE_OF = {name: code for code, name in _CODES.items()}


def colour(name: str) -> str:
    """A stand-in for a colour of the page, which ``inline`` replaces by the page's variable."""
    return _CODE_OF[name]


@contextmanager
def style() -> Iterator[None]:
    """Our own settings, whatever the reader's are. Figures are made, drawn and saved inside."""
    import matplotlib as mpl

    ink: dict[Any, Any] = {
        f"{part}color": colour("ink") for part in ("text.", "axes.label", "xtick.label", "ytick.label")
    }
    lines: dict[Any, Any] = {name: colour("muted") for name in ("axes.edgecolor", "xtick.color", "ytick.color")}
    with mpl.rc_context(), warnings.catch_warnings():
        # The page's font draws the text: a sign that the measuring font lacks is only measured roughly.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        mpl.rcdefaults()
        mpl.rcParams.update({**SETTINGS, **ink, **lines, "grid.color": colour("grid")})
        yield


def blank(height: float) -> Figure:
    """An empty figure without a ground, outside pyplot's global state."""
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH, height), layout="constrained", facecolor="none")


def legend(figure: Figure, axes: Axes, columns: int = 2) -> None:
    """A legend below the axes; each name once."""
    handles, labels = axes.get_legend_handles_labels()
    named = dict(zip(labels, handles, strict=True))
    figure.legend(named.values(), named.keys(), loc="outside lower left", ncols=columns, handlelength=2.6)


def inline(figure: Figure, name: str, title: str, description: str) -> str:
    """The figure as an ``svg`` element. ``name`` goes before its identifiers, so that no two figures share one.

    Colours become ``var(--...)``. Prologue, metadata, comments and the style sheet, which would reach the whole page,
    are left out; markup in texts is escaped.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    stream = io.BytesIO()
    # Not savefig, which draws everything once more before it writes: a board has dozens of figures.
    FigureCanvasSVG(figure).print_svg(  # type: ignore[no-untyped-call]
        stream, metadata={"Date": None, "Creator": None}
    )
    root = ET.fromstring(stream.getvalue())  # noqa: S314 - written by matplotlib in the line before
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.text, element.tail = (element.text or "").strip() or None, None
        element.attrib = {key.rpartition("}")[2]: _tidy(value) for key, value in _unstyled(element.attrib).items()}
    for parent in list(root.iter()):
        for child in [c for c in parent if c.tag in ("metadata", "style")]:
            parent.remove(child)
    _rename(root, name)
    box = root.attrib["viewBox"]
    root.attrib = {
        "viewBox": box,
        "role": "img",
        "aria-labelledby": f"{name}-title",
        "aria-describedby": f"{name}-desc",
    }
    for place, (tag, text) in enumerate((("title", title), ("desc", description))):
        element = ET.Element(tag, {"id": f"{name}-{tag}"})
        element.text = text
        root.insert(place, element)
    return ET.tostring(root, encoding="unicode")


def _unstyled(attributes: Mapping[str, str]) -> dict[str, str]:
    """Attributes of their own for what stood in ``style``, which a strict content policy forbids; fonts are the page's.

    Presentation attributes say the same as long as no rule of a style sheet is about the element.
    """
    found = {key: value for key, value in attributes.items() if key != "style"}
    for declaration in attributes.get("style", "").split(";"):
        key, colon, value = declaration.partition(":")
        if colon and key.strip() != "font-family":
            found[key.strip()] = value.strip()
    return found


def _tidy(value: str) -> str:
    """An attribute with the page's colours, on one line and with no more digits than a screen shows."""
    value = re.sub(r"#0a00[0-9a-f]{2}", lambda code: f"var(--{_CODES[code[0]]})", value)
    return re.sub(r"(\.\d\d)\d+", r"\1", " ".join(value.split()))


def _rename(root: ET.Element, name: str) -> None:
    """Keep only identifiers that something refers to, with the figure's name before them."""
    used = {
        found
        for element in root.iter()
        for value in element.attrib.values()
        for found in re.findall(r"^#(.+)$|url\(#([^)]+)\)", value)
    }
    wanted = {first or second for first, second in used}
    for element in root.iter():
        if element.attrib.get("id") in wanted:
            element.attrib["id"] = f"{name}-{element.attrib['id']}"
        else:
            element.attrib.pop("id", None)
        for key, value in element.attrib.items():
            element.attrib[key] = re.sub(r"^#(.+)$|url\(#([^)]+)\)", lambda at: _moved(at, name), value)


def _moved(reference: re.Match[str], name: str) -> str:
    if reference[1]:
        return f"#{name}-{reference[1]}"
    return f"url(#{name}-{reference[2]})"
