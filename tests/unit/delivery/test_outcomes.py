"""
Every way a request can end, over real sockets: what the caller is told, how many POSTs came, and what was billed.

The promise behind each row: a request that may have been billed is never sent again.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import struct
import threading
import traceback

import pytest

from airflow_provider_claid.api import client, errors
from airflow_provider_claid.delivery import generate as generate_module
from airflow_provider_claid.delivery.checks import check_request
from airflow_provider_claid.delivery.generate import MAX_TRIES, generate
from airflow_provider_claid.delivery.sync import run
from airflow_provider_claid.exceptions import airflow_errors
from tests.conftest import make_account, stop_listening

REQUEST = check_request("a red bicycle", 2, 5.0, None)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    monkeypatch.setattr(generate_module, "FIRST_PAUSE", 0.01)


def outcome_of(account):
    """Return the error of one generation, or its result."""
    try:
        return run(generate(account, REQUEST))
    except errors.ClaidError as error:
        return error


def seen(sandbox):
    totals = sandbox.report()["totals"]
    return totals["posts"], totals["credits"]


def test_done(sandbox, account):
    result = outcome_of(account)
    assert [image.width for image in result.images] == [1024, 1024]
    assert result.request_id
    assert seen(sandbox) == (1, 2)


STATUSES = [
    (400, errors.ClaidRefusedError, "no"),
    (401, errors.ClaidAuthenticationError, "no"),
    (402, errors.ClaidCreditsError, "no"),
    (403, errors.ClaidPermissionError, "no"),
    (404, errors.ClaidRefusedError, "no"),
    (408, errors.ClaidUnknownOutcomeError, "unknown"),
    (409, errors.ClaidRefusedError, "no"),
    (413, errors.ClaidRefusedError, "no"),
    (422, errors.ClaidValidationError, "no"),
    (500, errors.ClaidUnknownOutcomeError, "unknown"),
    (502, errors.ClaidUnknownOutcomeError, "unknown"),
    (503, errors.ClaidUnknownOutcomeError, "unknown"),
    (504, errors.ClaidUnknownOutcomeError, "unknown"),
]


@pytest.mark.parametrize("body", ["flat", "nested", "fastapi", "html", "text", "empty", "garbage-json", "list"])
@pytest.mark.parametrize(("status", "kind", "billed"), STATUSES)
def test_each_status_in_each_body_shape_is_sent_once(sandbox, account, status, kind, billed, body):
    sandbox.fault("generate", "status", status=status, body=body, times=None)
    error = outcome_of(account)
    assert type(error) is kind
    assert (error.status, error.billed) == (status, billed)
    assert error.request_id
    assert seen(sandbox) == (1, 0)


def test_an_error_status_after_billing_is_not_sent_again(sandbox, account):
    sandbox.fault("generate", "status", status=502, billed=True, times=None)
    assert outcome_of(account).billed == "unknown"
    assert seen(sandbox) == (1, 2)


@pytest.mark.parametrize("body", ["flat", "nested", "html", "empty"])
def test_a_refusal_by_the_rate_limit_is_sent_again(sandbox, account, body):
    sandbox.fault("generate", "status", status=429, body=body, times=2)
    assert len(outcome_of(account).images) == 2
    assert seen(sandbox) == (3, 2)


def test_a_rate_limit_that_stays_is_an_error_after_some_tries(sandbox, account):
    sandbox.fault("generate", "status", status=429, times=None)
    error = outcome_of(account)
    assert type(error) is errors.ClaidRateLimitError
    assert (error.billed, error.retryable) == ("no", True)
    assert seen(sandbox) == (MAX_TRIES, 0)


def test_a_long_retry_after_is_left_to_airflow(sandbox, account):
    sandbox.fault("generate", "status", status=429, headers={"Retry-After": "900"}, times=None)
    error = outcome_of(account)
    assert (type(error), error.retry_after) == (errors.ClaidRateLimitError, 900.0)
    assert seen(sandbox) == (1, 0)


@pytest.mark.parametrize(
    ("fault", "kind", "billed", "credits"),
    [
        ({"kind": "reset", "when": "before_billing"}, errors.ClaidUnknownOutcomeError, "unknown", 0),
        ({"kind": "reset", "when": "after_billing"}, errors.ClaidUnknownOutcomeError, "unknown", 2),
        ({"kind": "close", "billed": False}, errors.ClaidUnknownOutcomeError, "unknown", 0),
        ({"kind": "close", "billed": True}, errors.ClaidUnknownOutcomeError, "unknown", 2),
        ({"kind": "cut"}, errors.ClaidAnswerLostError, "yes", 2),
        ({"kind": "garbage"}, errors.ClaidAnswerLostError, "yes", 2),
        ({"kind": "redirect", "status": 307, "location": "https://example.com/"}, errors.ClaidRefusedError, "no", 0),
        ({"kind": "redirect", "status": 303, "location": "https://example.com/"}, errors.ClaidUnknownOutcomeError,
         "unknown", 0),
    ],
)  # fmt: skip
def test_each_broken_answer_is_sent_once(sandbox, account, fault, kind, billed, credits):
    sandbox.fault("generate", times=None, **fault)
    error = outcome_of(account)
    assert type(error) is kind
    assert error.billed == billed
    assert seen(sandbox) == (1, credits)


@pytest.mark.parametrize("kind", ["hang", "slow"])
def test_an_answer_that_takes_too_long_is_unknown(sandbox, tmp_path, kind):
    sandbox.fault("generate", kind, seconds=20, times=None)
    error = outcome_of(make_account(sandbox.url, tmp_path, timeout=0.4))
    assert error.billed in {"unknown", "yes"}
    assert not error.retryable
    assert seen(sandbox)[0] == 1


def reset_unread(listener, count):
    """Accept connections and reset each once its first bytes have arrived, without reading them."""
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listener.accept()
            select.select([connection], [], [], 5)
            count.append(1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()


def test_a_connection_reset_before_the_request_was_read_may_have_taken_it(tmp_path):
    listener, count = socket.create_server(("127.0.0.1", 0)), []
    threading.Thread(target=reset_unread, args=(listener, count), daemon=True).start()
    error = outcome_of(make_account(f"http://127.0.0.1:{listener.getsockname()[1]}", tmp_path))
    stop_listening(listener)
    assert (type(error), error.billed) == (errors.ClaidUnknownOutcomeError, "unknown")
    assert len(count) == 1


def test_a_connection_reset_at_once_is_repeated_only_if_nothing_left(sandbox, account):
    sandbox.fault("connect", "reset", times=None)
    error = outcome_of(account)
    assert seen(sandbox) == (0, 0)
    # The reset comes before or after the first byte: both happen, and each is told by whether a byte left.
    assert type(error) in {errors.ClaidUnknownOutcomeError, errors.ClaidNotSentError}
    assert sandbox.report()["totals"]["dropped_connections"] <= MAX_TRIES


@pytest.fixture
def closed_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_a_refused_connection_is_not_sent_and_tried_again(tmp_path, closed_port, caplog):
    error = outcome_of(make_account(f"http://127.0.0.1:{closed_port}", tmp_path))
    assert (type(error), error.billed, error.retryable) == (errors.ClaidNotSentError, "no", True)
    assert f", at http://127.0.0.1:{closed_port}" in str(error)
    assert caplog.text.count("was not billed") == MAX_TRIES - 1


def test_an_unknown_host_is_not_sent(tmp_path, monkeypatch):
    monkeypatch.setattr(generate_module, "MAX_TRIES", 1)
    error = outcome_of(make_account("https://claid.invalid", tmp_path))
    assert (type(error), error.billed) == (errors.ClaidNotSentError, "no")


def test_a_connection_that_is_not_accepted_in_time_is_not_sent(tmp_path, monkeypatch):
    monkeypatch.setattr(generate_module, "MAX_TRIES", 1)
    monkeypatch.setattr(client, "CONNECT_TIMEOUT", 0.3)
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        error = outcome_of(make_account(f"http://127.0.0.1:{listener.getsockname()[1]}", tmp_path))
    assert (type(error), error.billed) == (errors.ClaidNotSentError, "no")


class Proxy(threading.Thread):
    """A proxy that answers every CONNECT with one status, and counts them."""

    def __init__(self, status):
        super().__init__(daemon=True)
        self.answer = f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n".encode()
        self.heads = []
        self.listener = socket.create_server(("127.0.0.1", 0))

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                with connection:
                    self.heads.append(connection.recv(65536))
                    connection.sendall(self.answer)


@pytest.mark.parametrize("status", [403, 407, 502, 503])
def test_a_proxys_refusal_is_not_sent(tmp_path, monkeypatch, status):
    proxy = Proxy(status)
    proxy.start()
    monkeypatch.setattr(generate_module, "MAX_TRIES", 2)
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.listener.getsockname()[1]}")
    error = outcome_of(make_account("https://api.claid.ai", tmp_path))
    stop_listening(proxy.listener)
    proxy.join(60)
    assert (type(error), error.billed) == (errors.ClaidNotSentError, "no")
    assert len(proxy.heads) == 2
    assert all(head.startswith(b"CONNECT api.claid.ai:443") for head in proxy.heads)
    assert not any(b"Bearer" in head for head in proxy.heads)


class Tunnel(threading.Thread):
    """A proxy that opens the tunnel and then says nothing."""

    def __init__(self):
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                connection.recv(65536)
                connection.close()


def test_the_question_to_a_proxy_does_not_pass_for_the_request(tmp_path, monkeypatch):
    proxy, gate = Tunnel(), []
    proxy.start()
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.listener.getsockname()[1]}")

    class Gate:
        async def wait(self):
            gate.append("wait")

        def sent(self):
            gate.append("sent")

    endpoint = make_account("https://api.claid.ai", tmp_path).endpoint
    with pytest.raises(errors.ClaidNotSentError):
        run(client.ClaidClient(endpoint).generate(REQUEST, Gate()))
    stop_listening(proxy.listener)
    proxy.join(60)
    assert gate == []


def test_an_echo_of_the_key_in_a_broken_header_is_in_no_error(tmp_path):
    listener = socket.create_server(("127.0.0.1", 0))

    def echo():
        connection, _ = listener.accept()
        with connection:
            request = connection.recv(65536)
            line = next(line for line in request.split(b"\r\n") if line.lower().startswith(b"authorization"))
            connection.sendall(b"HTTP/1.1 200 OK\r\nX-Echo " + line + b"\r\n\r\n")

    threading.Thread(target=echo, daemon=True).start()
    account = make_account(f"http://127.0.0.1:{listener.getsockname()[1]}", tmp_path)
    with pytest.raises(errors.ClaidUnknownOutcomeError) as caught, airflow_errors():
        run(generate(account, REQUEST))
    stop_listening(listener)
    assert account.endpoint.api_key not in "".join(traceback.format_exception(caught.value))
    link = caught.value
    while link is not None:
        assert account.endpoint.api_key not in f"{link!r} {link.args} {vars(link)}"
        link = link.__cause__ or link.__context__


def test_a_refusal_that_says_nothing_backs_off(sandbox, account, monkeypatch):
    pauses, real = [], generate_module.pause_after
    monkeypatch.setattr(generate_module, "pause_after", lambda *given: pauses.append(real(*given)) or pauses[-1])
    monkeypatch.setattr(generate_module, "FIRST_PAUSE", 0.08)
    sandbox.fault("generate", "status", status=429, body="html", times=3)
    assert len(outcome_of(account).images) == 2
    assert [low <= pause <= 2 * low for pause, low in zip(pauses, (0.04, 0.08, 0.16), strict=True)] == [True] * 3


def test_a_server_on_this_machine_is_never_reached_through_a_proxy(sandbox, account, monkeypatch, closed_port):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port}")
    assert len(outcome_of(account).images) == 2


def test_a_certificate_that_does_not_verify_is_a_configuration_error(tmp_path, tls_server):
    error = outcome_of(make_account(f"https://localhost:{tls_server}", tmp_path))
    assert isinstance(error, errors.ClaidConfigurationError)
    assert "does not verify" in str(error)
    assert error.billed == "no"


def test_a_cancelled_request_that_left_is_unknown(sandbox, account):
    sandbox.fault("generate", "hang", seconds=20, times=None)

    async def cancelled():
        task = asyncio.create_task(generate(account, REQUEST))
        while seen(sandbox)[0] == 0:
            await asyncio.sleep(0.02)
        task.cancel()
        await task

    with pytest.raises(errors.ClaidUnknownOutcomeError, match="CancelledError") as caught, airflow_errors():
        run(cancelled())
    assert caught.value.billed == "unknown"
    assert seen(sandbox)[0] == 1


def test_a_cancelled_request_that_did_not_leave_is_only_cancelled(sandbox, account):
    async def cancelled():
        pace = generate_module.pacer(account.name, account.pace, account.pacing_dir)
        pace._store.close(30)
        task = asyncio.create_task(generate(account, REQUEST))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return True

    with airflow_errors():
        assert run(cancelled())
    assert seen(sandbox) == (0, 0)


def test_an_answer_with_odd_types_still_gives_its_pictures(sandbox, account):
    sandbox.fault("generate", "wrong_types")
    assert len(outcome_of(account).images) == 2
    assert seen(sandbox) == (1, 2)


def test_the_request_is_what_the_contract_says(sandbox, account):
    outcome_of(account)
    (request,) = [item for item in sandbox.report()["requests"] if item["method"] == "POST"]
    assert (request["path"], request["prompt"], request["images"]) == ("/v1/image/generate", "a red bicycle", 2)
    assert request["user_agent"].startswith("airflow-provider-claid/")
    assert "apache-airflow/" in request["user_agent"]
