"""The lab's webhook receiver: remembers every notification that it is sent, for tests and for curious people.

POST stores one (any path), GET returns all as a JSON list, oldest first, DELETE forgets them.
Standard library only; it runs on the guest's own Python as ``lab-webhook.service``.
"""

from __future__ import annotations

import json
import sys
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class WebhookServer(ThreadingHTTPServer):
    """Appends what arrives to `file`, one JSON object per line."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], file: Path) -> None:
        super().__init__(address, _Handler)
        self.file = file
        self.lock = threading.Lock()


class _Handler(BaseHTTPRequestHandler):
    server: WebhookServer

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        line = json.dumps(
            {
                "at": datetime.now(UTC).isoformat(),
                "path": self.path,
                "headers": dict(self.headers.items()),
                "body": self.rfile.read(length).decode(errors="replace"),
            }
        )
        with self.server.lock, self.server.file.open("a") as file:
            file.write(line + "\n")
        self._answer(200, {"stored": True})

    def do_GET(self) -> None:
        with self.server.lock:
            lines = self.server.file.read_text().splitlines() if self.server.file.exists() else []
        self._answer(200, [json.loads(line) for line in lines])

    def do_DELETE(self) -> None:
        with self.server.lock:
            self.server.file.unlink(missing_ok=True)
        self._answer(200, {"forgotten": True})

    def _answer(self, status: int, value: object) -> None:
        content = (json.dumps(value) + "\n").encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (http.server's signature)
        """The file has it."""


if __name__ == "__main__":
    WebhookServer(("", int(sys.argv[1])), Path(sys.argv[2])).serve_forever()
