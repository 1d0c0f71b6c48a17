"""A server without Gradio: programs are answered, and / says how they ask."""

import json
import sys

import pytest
from small_server import small_server

from unmask.serve import app


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delitem(sys.modules, "unmask.serve.page", raising=False)
    app.load_page()
    with small_server(tmp_path) as found:
        yield found


def test_it_says_how_programs_ask_and_what_the_page_needs(server):
    found = server.get("/")
    assert found.status == 200
    assert b"api/predict" in found.body
    assert b"pip install &quot;unmask[serve]&quot;" in found.body


def test_only_the_endpoints_are_there(server):
    assert json.loads(server.get("/api/health").body)["ready"] is False
    for path in ("/config", "/theme.css", "/manifest.json"):
        assert server.get(path).status == 404
    empty = server.post("/api/predict", b"", Content_Type="application/octet-stream")
    assert (empty.status, empty.kind) == (415, "not_a_video")
