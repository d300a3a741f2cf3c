"""A picture that is paid for and decodes is delivered, whatever its end looks like; one that does not is not."""

from __future__ import annotations

import hashlib
import io
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from PIL import Image

from airflow_provider_claid.api.errors import ClaidPictureError
from airflow_provider_claid.api.models import GeneratedImage
from airflow_provider_claid.delivery import pictures, sync
from airflow_provider_claid.delivery.pictures import MAX_TRIES, fetch


def drawn(format="PNG"):
    out = io.BytesIO()
    Image.effect_noise((40, 30), 80).convert("RGB").save(out, format)
    return out.getvalue()


@pytest.fixture
def serve(monkeypatch):
    """Serve these bytes, and count how often they are asked for."""
    monkeypatch.setattr(pictures, "FIRST_PAUSE", 0.0)
    servers = []

    def start(data):
        asked = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append(self.path)
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/a.png", asked

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def fetched(url, **promised):
    return sync.run(fetch(GeneratedImage.model_validate({"tmp_url": url, **promised}), allow_loopback=True))


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "AVIF"])
@pytest.mark.parametrize("more", [b"\0\0\0", b"\n", b"\xff\xd9", bytes(5000)])
def test_a_padded_picture_is_taken_at_the_first_try_as_it_came(serve, format, more):
    data = drawn(format) + more
    url, asked = serve(data)
    found = fetched(url, width=40, height=30)
    assert found.data == data
    assert found.sha256 == hashlib.sha256(found.data).hexdigest()
    assert found.header.format == format
    assert len(asked) == 1


def test_what_comes_without_its_end_every_time_and_decodes_is_taken_at_last(serve):
    data = drawn()[:-12]
    url, asked = serve(data)
    assert fetched(url, width=40).data == data
    assert len(asked) == MAX_TRIES


def test_what_does_not_decode_is_not_taken(serve):
    url, asked = serve(drawn()[:-200])
    with pytest.raises(ClaidPictureError, match="its end is missing"):
        fetched(url)
    assert len(asked) == MAX_TRIES
