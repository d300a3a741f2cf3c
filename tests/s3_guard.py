"""A local S3 server by a way of its own, which can be told to refuse, to overlook, and to count requests."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager


class Guard:
    """
    Lets requests through to the store of the `bucket` fixture, unless told otherwise; `seen` are method and path.

    `denies` gets a request (WSGI) and says whether it is answered by `denial`, a status and a code;
    `overlooks_conditions` is a server that does not know If-None-Match.
    """

    def __init__(self):
        from moto.server import DomainDispatcherApplication, create_backend_app

        self._store = DomainDispatcherApplication(create_backend_app)
        self.seen = []
        self.denies = lambda request: False
        self.denial = "403 Forbidden", "AccessDenied"
        self.overlooks_conditions = False
        self.url = ""

    def __call__(self, request, start_response):
        self.seen.append((request["REQUEST_METHOD"], request["PATH_INFO"]))
        if self.overlooks_conditions:
            request.pop("HTTP_IF_NONE_MATCH", None)
        if not self.denies(request):
            return self._store(request, start_response)
        request["wsgi.input"].read(int(request.get("CONTENT_LENGTH") or 0))
        status, code = self.denial
        start_response(status, [("Content-Type", "application/xml")])
        return [f"<Error><Code>{code}</Code><Message>Access Denied</Message></Error>".encode()]

    def asked(self, method, part=""):
        """Count the requests of a method whose path has this part."""
        return sum(each == method and part in path for each, path in self.seen)

    def connection(self):
        """Return Airflow's connection to it."""
        extra = {"endpoint_url": self.url, "region_name": "us-east-1"}
        return json.dumps({"conn_type": "aws", "login": "access", "password": "secret", "extra": extra})


@contextmanager
def guarded():
    """Serve a `Guard`."""
    from werkzeug.serving import make_server

    guard = Guard()
    server = make_server("127.0.0.1", 0, guard, threaded=True)
    guard.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield guard
    finally:
        server.shutdown()
        thread.join(5)
