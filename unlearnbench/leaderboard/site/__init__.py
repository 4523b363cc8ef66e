"""The site: boards, entries, unlearners, measures and changes as files that any web server, or none, can show."""

from unlearnbench.leaderboard.site.build import build_site

__all__ = ["build_site"]
