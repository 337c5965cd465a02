"""Nobody but the page itself changes anything, and nothing of a log is ever taken for markup."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from oautom import Client, Flow, OAutom, PythonExecution, SettingError
from oautom.web import page

from .conftest import Orders, Site, served

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def test_each_answer_forbids_what_the_page_does_not_need(steered: Site) -> None:
    for view in ("", "run?id=order+1", "run?id=nobody", "nothing", "static/page.js", "static/none"):
        headers = steered.ask("GET", view).headers
        assert headers["content-security-policy"] == POLICY
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        assert headers["cache-control"] in ("no-store", "no-cache")
        assert "server" not in headers
    refused = steered.ask("GET", "", headers={"Host": "evil.example"})
    assert refused.headers["content-security-policy"] == POLICY


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "192.168.0.1", "0.0.0.0",
     "localhost@evil.example", "localhost/evil", "localhost:x", "[::2]", "", "localhost."],
)  # fmt: skip
def test_it_answers_to_no_other_name(site: Site, host: str) -> None:
    answer = site.ask("GET", "", headers={"Host": host})
    assert answer.status == 421
    assert b"order" not in answer.body


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:80", "127.0.0.1:1", "[::1]", "[::1]:8800"]
)
def test_it_answers_to_those_of_this_machine(site: Site, host: str) -> None:
    assert site.ask("GET", "", headers={"Host": host}).status == 200


def test_a_request_without_a_name_or_with_two_is_refused(site: Site) -> None:
    for lines in ("GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\nHost: localhost\r\nHost: a\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", site.port), timeout=20) as connection:
            connection.sendall(lines.encode())
            assert connection.recv(100).split()[1] in (b"400", b"421")


def test_hosts_are_named_for_a_page_behind_a_proxy(orders: Orders) -> None:
    with served(orders.log, hosts=("flows.example.org",), steer=True) as site:
        site.enter()
        name = {"Host": "flows.example.org"}
        assert site.ask("GET", "", headers=name).status == 200
        own = {"Origin": "https://flows.example.org", "Sec-Fetch-Site": "same-origin"}
        for headers in ({**name, **own}, own):  # a proxy may put its own name there
            assert site.post("do", headers, action="x").status == 400
        assert site.post("do", {**name, "Origin": "http://flows.example.org:99"}).status == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "http://localhost"},
        {"Origin": "javascript://127.0.0.1"},
        {"Origin": "http://["},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
    ],
)
def test_what_another_site_sends_is_refused(steered: Site, headers: dict[str, str]) -> None:
    answer = steered.post("do", headers, action="cancel", id="order 3")
    assert answer.status == 403
    assert "nothing was done" in answer.text


def test_nothing_is_changed_without_the_token_or_with_a_wrong_one(orders: Orders) -> None:
    with served(orders.log, steer=True) as site:
        form = {"action": "cancel", "id": "order 3"}
        right = site.token or ""
        assert len(right) >= 32
        for wrong in ("", "x", right[:-1], right + "x", right.swapcase(), "ü", "\0"):
            bearer = {"Authorization": f"Bearer {wrong.encode().decode('latin-1')}"}
            for headers in ({}, *([bearer] if wrong.isprintable() else [])):
                assert site.post("do", headers, **form, token=wrong).status == 403
            assert "set-cookie" not in site.get(token=wrong).headers
            assert site.post("enter", token=wrong).status == 403
        cookie = site.get(token=right).headers["set-cookie"]
        assert "httponly" in cookie.lower()
        assert "samesite=strict" in cookie.lower()
        assert right not in cookie
        name = cookie.partition("=")[0]
        for cookies in (f"{name}=x", f"{name}={right}", "=;;; =", f"{name}"):
            assert site.post("do", {"Cookie": cookies}, **form).status == 403
        assert "Cancel" not in site.get("run", id="order 3").text
        assert site.get("confirm", **form).status == 403
        assert site.get("start").status == 403
        assert Client(orders.log).vect("order 3").state == "running"
        bearer = {"Authorization": f"Bearer {right}"}
        assert site.post("do", bearer, action="nothing").status == 400
        assert site.post("do", {}, action="nothing", token=right).status == 400
        entered = site.post("enter", token=right)
        assert (entered.status, entered.headers["location"]) == (303, "./")


@pytest.mark.parametrize(
    "other", ['a={"b": 1}', 'a="', "a", "=b", "a@b=[1, 2]", "path=/", "ä=ü", ""]
)
def test_cookies_of_other_pages_of_the_machine_do_no_harm(steered: Site, other: str) -> None:
    own = "; ".join(f"{name}={value}" for name, value in steered.cookies.items())
    for cookies in (f"{other}; {own}", f"{own}; {other}", f"{own.partition('=')[0]}=x;{own}"):
        given = {"Cookie": cookies.encode().decode("latin-1")}
        assert steered.post("do", given, action="nothing").status == 400
    for name, value in steered.cookies.items():
        for cookies in (f"{name}x={value}", f"{name}={value}x", f"{other}={name}={value}"):
            given = {"Cookie": cookies.encode().decode("latin-1")}
            assert steered.post("do", given, action="nothing").status == 403


def test_the_token_leaves_the_address_and_the_rest_stays(steered: Site) -> None:
    answer = steered.get("run", token=steered.token, id="a/b", name="x", view="y")
    assert answer.headers["location"] == "run?id=a%2Fb&name=x&view=y"


def test_a_page_that_only_shows_changes_nothing(site: Site) -> None:
    assert site.post("do", action="cancel", id="order 3").status == 403
    assert site.post("enter", token="x").status == 403
    assert site.get("start").status == 403


def test_a_body_is_a_form_and_not_too_large(steered: Site) -> None:
    assert steered.ask("POST", "do", b"{}", {"Content-Type": "application/json"}).status == 415
    assert steered.ask("POST", "do", b"a=b").status == 415
    assert steered.ask("POST", "do", b"a=" + b"x" * 2**20, FORM).status == 413
    assert steered.ask("POST", "do", b"&".join([b"a=b"] * 2000), FORM).status == 400
    assert steered.ask("POST", "do", b"a=\xff", FORM).status == 400
    assert steered.ask("POST", "do", b"a=%ff", FORM).status == 400
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
        assert steered.ask(method, "do", b"", FORM).status == 405


def test_a_file_that_may_only_be_read_is_shown_and_not_steered(
    file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with OAutom(log=file) as app:
        flow = Flow("one", app)
        PythonExecution("do", flow, int)
        app.run(flow, vect_id="a")
    Path(file).chmod(0o444)
    if os.geteuid() == 0:  # who may write any file
        monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    with served(file, steer=True) as site:
        site.enter()
        assert site.get("run", id="a").status == 200
        assert site.post("do", action="retry", id="a").status == 503


def test_a_file_without_an_engine_is_shown_and_tells_that_nobody_answers(file: str) -> None:
    with OAutom(log=file) as app:
        flow = Flow("one", app)
        PythonExecution("do", flow, int)
        app.run(flow, vect_id="a")
    with served(file, steer=True) as site:
        site.enter()
        answer = site.post("do", action="retry", id="a")
        assert answer.status == 503
        assert "nothing was done" in answer.text


@pytest.mark.parametrize(
    "how",
    [
        {"token": "x"},
        {"steer": True, "token": ""},
        {"steer": True, "token": " "},
        {"steer": True, "token": 5},
        {"hosts": "example.org"},
        {"hosts": ["http://example.org"]},
        {"hosts": ["example.org/x"]},
        {"hosts": [""]},
        {"hosts": [5]},
    ],
)
def test_what_cannot_be_meant_is_refused(file: str, how: dict[str, Any]) -> None:
    with pytest.raises(SettingError):
        page(file, **how)
    with pytest.raises(SettingError):
        page(5)


def test_a_token_of_ones_own_may_be_any_text(orders: Orders) -> None:
    made = page(orders.log, steer=True, token="grüße; ho=ho")
    assert made.token == "grüße; ho=ho"
    assert "grüße" not in repr(made)
