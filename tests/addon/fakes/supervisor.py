"""Plays the Supervisor: takes discovery messages as it does, and prints each request as a line of JSON.

`python supervisor.py PORT TOKEN [REFUSALS]` on loopback; the first REFUSALS messages are refused. Port 0 is a free one.
The first line says where it listens.
"""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class Supervisor(BaseHTTPRequestHandler):
    token = ""
    refusals = 0

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        authorized = self.headers.get("Authorization") == f"Bearer {self.token}"
        status = 200
        answer: dict[str, object] = {"result": "ok", "data": {"uuid": "5d4a4b5f4b3e4a4c8b1d8c2f0c1f0a0e"}}
        try:
            message = json.loads(body)
        except ValueError:
            message = None
        if not authorized:
            status, answer = 401, {"result": "error", "message": "unauthorized"}
        elif self.path != "/discovery":
            status, answer = 404, {"result": "error", "message": "not found"}
        elif not isinstance(message, dict) or set(message) != {"service", "config"}:
            status, answer = 400, {"result": "error", "message": "expected service and config"}
        elif Supervisor.refusals > 0:
            Supervisor.refusals -= 1
            status, answer = 503, {"result": "error", "message": "starting"}
        print(json.dumps({"path": self.path, "status": status, "message": message}), flush=True)
        encoded = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing beside the lines of JSON."""


if __name__ == "__main__":
    Supervisor.token = sys.argv[2]
    Supervisor.refusals = int(sys.argv[3]) if len(sys.argv) > 3 else 0
    with HTTPServer(("127.0.0.1", int(sys.argv[1])), Supervisor) as server:
        print(json.dumps({"port": server.server_port}), flush=True)
        server.serve_forever()
