"""The three levels at which something can be forgotten."""

LEVELS = {
    "samples": "items",
    "class": "items",
    "group": "items",
    "target": "annotations",
    "nodes": "elements",
    "edges": "elements",
    "features": "elements",
}
