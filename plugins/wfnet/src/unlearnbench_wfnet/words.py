"""How names and shares are written for people."""

from __future__ import annotations


def plain_text(text: str) -> str:
    """A text from a file in one line, without signs that could rewrite a terminal or cannot be drawn."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split()) or "?"


def share(value: float) -> str:
    """A share in percent, with a digit behind the point."""
    return f"{100 * value:.1f} %"
