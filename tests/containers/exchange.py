"""A bitcoin exchange for a cluster without the internet: Coinbase's answer, always at one price."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

RATE = "48478.88"


class Exchange(BaseHTTPRequestHandler):
    """GET /v2/prices/buy?currency=XXX."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        currency = parse_qs(urlsplit(self.path).query).get("currency", ["USD"])[0]
        data = {"base": "BTC", "currency": currency, "amount": RATE}
        body = json.dumps({"data": data}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    ThreadingHTTPServer(("0.0.0.0", 8000), Exchange).serve_forever()  # noqa: S104 - in a container
