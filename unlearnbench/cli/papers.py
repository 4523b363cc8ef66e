"""Papers as commands tell of them."""

from __future__ import annotations

import textwrap

import click

from unlearnbench.api.specs import Paper


def cited(paper: Paper | None) -> str:
    """A paper as a text cites it: Foster et al. 2024."""
    if paper is None:
        return "-"
    families = [author.split()[-1] for author in paper.authors]
    names = " and ".join(families) if len(families) < 3 else f"{families[0]} et al."
    return f"{names} {paper.year}"


def show_paper(paper: Paper) -> None:
    """Print a paper, and where a component or table differs from it."""
    click.echo(f"\npaper\n  {', '.join(paper.authors)}. {paper.title}. {paper.venue} {paper.year}.")
    for label, value in (("doi", paper.doi), ("arXiv", paper.arxiv)):
        if value:
            click.echo(f"  {label}: {value}")
    if paper.deviations:
        click.echo("\nwhere this differs from the paper")
        for sentence in paper.deviations:
            click.echo(textwrap.fill(sentence, 100, initial_indent="  - ", subsequent_indent="    "))
