"""The page's files as they are sent. What they do is tested in `page`, in a browser."""

from __future__ import annotations

import re

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from sd2rt.serve import page_files
from sd2rt.serve.page_files import PATHS, TYPES
from sd2rt.serve.public import is_public
from sd2rt.serve.service import Service
from sd2rt.serve.settings import ServeSettings
from tests.serve.fakes import FakeBackend

FOLDER = page_files.FOLDER


@pytest.fixture
def client() -> TestClient:
    app = FastAPI()
    app.include_router(page_files.make_router(Service(ServeSettings(), FakeBackend())))
    return TestClient(app)


def test_the_list_names_what_is_there() -> None:
    assert sorted(TYPES) == sorted(file.name for file in FOLDER.iterdir())


@pytest.mark.parametrize("path", PATHS)
def test_files_are_sent_with_type_policy_and_etag(client: TestClient, path: str) -> None:
    answer = client.get(path)
    name = path.rpartition("/")[2] or "index.html"
    assert (answer.status_code, answer.headers["content-type"]) == (200, TYPES[name])
    assert answer.content == (FOLDER / name).read_bytes()
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert is_public(path)
    again = client.get(path, headers={"If-None-Match": f'"another", W/{answer.headers["etag"]}'})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get(path, headers={"If-None-Match": '"another"'}).status_code == 200
    head = client.head(path)
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", answer.headers["content-length"])


@pytest.mark.parametrize("path", ["/page/", "/page/index.html", "/page/nothing.js", "/page/../page_files.py", "/page/%2e%2e/page_files.py"])
def test_nothing_else_is_sent(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


def test_the_page_refers_to_its_own_files_alone() -> None:
    index = (FOLDER / "index.html").read_text()
    assert {f"/{path}" for path in re.findall(r'(?:href|src)="(?!#)([^"]+)"', index)} <= set(PATHS)
    assert not re.search(r"<style|<script(?![^>]*src=)|\sstyle=|\son\w+=", index)
    for name in (name for name in TYPES if name.endswith(".js")):
        imported = re.findall(r'^import .* from "(.+)";$', (FOLDER / name).read_text(), re.MULTILINE)
        assert {path.removeprefix("./") for path in imported} <= set(TYPES), name
