"""A local look at a site: the files of one folder, for reading only, with the headers that a server should send."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from unlearnbench.leaderboard.site.pages import POLICY

HEADERS = {
    "Content-Security-Policy": f"{POLICY}; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".xml": "application/atom+xml; charset=utf-8",
    ".json": "application/json",
    ".csv": "text/csv; charset=utf-8",
    ".parquet": "application/vnd.apache.parquet",
}
"""Not those of the machine's own list, which may say anything."""


class _Handler(SimpleHTTPRequestHandler):
    """GET and HEAD of the site's files; no lists of folders, nothing hidden, nothing that a link leads out to."""

    extensions_map = TYPES
    server_version = "unlearnbench"
    sys_version = ""

    def send_head(self) -> Any:
        asked = Path(self.translate_path(self.path))
        root = Path(self.directory).resolve()
        file = asked / "index.html" if asked.is_dir() else asked
        hidden = any(part.startswith(".") for part in asked.parts[len(Path(self.directory).parts) :])
        if hidden or not file.is_file() or not file.resolve().is_relative_to(root):
            self.send_error(HTTPStatus.NOT_FOUND)
            return None
        return super().send_head()

    def list_directory(self, path: Any) -> None:
        self.send_error(HTTPStatus.NOT_FOUND)

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - named by the base class
        """Say nothing: what is asked for is text of strangers, and a terminal obeys some of that."""


def server(folder: Path, host: str, port: int) -> ThreadingHTTPServer:
    """A server of a folder, not yet running; port 0 takes a free one.

    Raises:
        OSError: the address cannot be had.
    """
    return ThreadingHTTPServer((host, port), partial(_Handler, directory=str(folder)))
