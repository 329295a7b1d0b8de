"""Who may speak to the explorer."""

import json
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import pytest


def test_headers_keep_pages_apart(client, photos_run):
    answer = client(photos_run).get("/api/run")
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "192.168.0.7"])
def test_another_name_for_this_machine_is_refused(client, photos_run, host):
    answer = client(photos_run).get("/api/run", headers={"host": host})
    assert answer.status_code == 403
    assert host in answer.json()["detail"]


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "[::1]:8000"])
def test_this_machine_by_its_own_names(client, photos_run, host):
    assert client(photos_run).get("/api/run", headers={"host": host}).status_code == 200


def test_a_page_elsewhere_changes_nothing(client, photos_copy):
    app = client(photos_copy)
    body = {"ids": [1], "mark": "drop", "session": "x"}
    for origin in ("http://evil.example", "null", "http://127.0.0.1:9999"):
        answer = app.post("/api/marks", json=body, headers={"origin": origin})
        assert answer.status_code == 403
    assert app.get("/api/marks").json()["marks"]["drop"] == 0
    assert app.post("/api/marks", json=body, headers={"origin": "http://127.0.0.1:8000"}).status_code == 200


def test_a_token_is_asked_of_every_request(client, photos_run):
    app = client(photos_run, token="secret")
    for path in ("/", "/api/run", "/static/app.js", "/openapi.json"):
        assert app.get(path).status_code == 401
    assert app.get("/api/run", headers={"authorization": "Bearer wrong"}).status_code == 401
    assert app.get("/api/run", headers={"authorization": "Bearer secret"}).status_code == 200
    answer = app.get("/?token=secret", follow_redirects=False)
    assert answer.status_code == 303
    assert (
        answer.headers["location"] == "/"
    )  # the token is out of the address, and in a cookie that scripts cannot read
    assert re.search(r"nolabel_token=secret; HttpOnly.*SameSite=strict", answer.headers["set-cookie"])
    assert app.get("/api/run").status_code == 200


def explored(*words):
    """`nolabel explore` as a process, and the address it told."""
    process = subprocess.Popen(
        [sys.executable, "-m", "nolabel.cli", "explore", *map(str, words), "--no-browser", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    return process, process.stdout.readline()


def test_the_command_serves_this_machine_alone(photos_run):
    process, told = explored(photos_run)
    try:
        address = json.loads(told)["address"]
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", address)
        with urllib.request.urlopen(f"{address}api/run") as answer:
            assert json.load(answer)["rows"] == 81
        taken = address.rstrip("/").rpartition(":")[2]
        second, _ = explored(photos_run, "--port", taken)
        assert second.wait() == 2
        assert re.search(rf"--port {taken}: cannot listen at 127\.0\.0\.1: .+", second.stderr.read())
    finally:
        process.terminate()
        process.wait()


def test_another_address_gets_a_token(photos_run):
    process, told = explored(photos_run, "--host", "0.0.0.0")
    try:
        address = json.loads(told)["address"]
        port, token = re.fullmatch(r"http://0\.0\.0\.0:(\d+)/\?token=([\w-]{20,})", address).groups()
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/api/run")
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/api/run", headers={"Authorization": f"Bearer {token}"}
        )
        with urllib.request.urlopen(request) as answer:
            assert answer.status == 200
        with socket.create_connection(("127.0.0.1", int(port))) as raw:  # no length: refused before anything is read
            raw.sendall(b"POST /api/marks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
            assert b" 411 " in raw.recv(200)
    finally:
        process.terminate()
        process.wait()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{tmp}/nowhere"], "no run folder at"),
        (["{tmp}"], "has no index to explore"),
        (["{run}", "--against", "{run}"], "is the run itself"),
        (["{run}", "--host", "203.0.113.7"], "cannot listen at 203.0.113.7"),
        (["{run}", "--port", "99999"], "--port"),
    ],
)
def test_words_that_do_not_fit(words, message, photos_run, tmp_path):
    process, _ = explored(*(word.format(tmp=tmp_path, run=photos_run) for word in words))
    assert process.wait() == 2
    said = process.stderr.read()
    assert message in said
    assert "Traceback" not in said
