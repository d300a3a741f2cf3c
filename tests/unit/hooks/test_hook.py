"""The hook over real sockets: both ways to generate, the unbilled look-ups, and the Test button."""

from __future__ import annotations

import asyncio
import json
import logging
import os

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_claid import exceptions
from airflow_provider_claid.hooks.claid import ClaidHook
from tests.conftest import KEY

pytestmark = pytest.mark.usefixtures("claid_connection")


def use(monkeypatch, sandbox, **fields):
    value = {"conn_type": "claid", "host": sandbox.url, "password": KEY, **fields}
    monkeypatch.setenv("AIRFLOW_CONN_CLAID_DEFAULT", json.dumps(value))


def test_generate_gives_what_claid_said(sandbox):
    result = ClaidHook().generate("a red bicycle", number_of_images=2, guidance_scale=7)
    assert result.prompt == "a red bicycle"
    assert [image.mime for image in result.images] == ["image/png"] * 2
    assert result.images[0].uri == result.images[0].tmp_url
    assert result.request_id
    assert sandbox.report()["totals"]["credits"] == 2


def test_the_rate_limit_of_the_answer_is_read(sandbox):
    sandbox.change(per_minute=120, per_second=4)
    result = ClaidHook().generate("a red bicycle")
    assert (result.rate_limit.limit, result.rate_limit.window, result.rate_limit.remaining) == (120, 60.0, 119)


def test_agenerate_does_the_same():
    result = asyncio.run(ClaidHook().agenerate("a red bicycle"))
    assert len(result.images) == 1


def test_many_at_once_share_one_loop():
    async def many():
        hook = ClaidHook()
        return await asyncio.gather(*(hook.agenerate(f"bicycle {n}") for n in range(20)))

    assert len({result.request_id for result in asyncio.run(many())}) == 20


def test_generate_inside_a_loop_names_agenerate(sandbox):
    async def inside():
        return ClaidHook().generate("a red bicycle")

    with pytest.raises(RuntimeError, match=r"await agenerate\(\.\.\.\) instead"):
        asyncio.run(inside())
    assert sandbox.report()["totals"]["posts"] == 0


def test_bad_input_is_named_as_the_hook_calls_it(sandbox):
    with pytest.raises(exceptions.ClaidInputError, match=r"^output: got") as caught:
        ClaidHook().generate("a red bicycle", output="s3://bucket/")
    assert isinstance(caught.value, AirflowFailException)
    assert sandbox.report()["totals"]["posts"] == 0


def test_output_into_a_connected_storage():
    image = ClaidHook().generate("a red bicycle", output="storage://my-storage/hook/").images[0]
    assert image.tmp_url is None
    assert image.claid_storage_uri.startswith("storage://my-storage/hook/")
    assert image.uri == image.object_uri


def test_storages_are_listed(sandbox):
    (storage,) = ClaidHook().list_storages()
    assert (storage.name, storage.type) == ("my-storage", "s3")
    assert sandbox.report()["totals"]["credits"] == 0


def test_a_failing_list_may_be_asked_again(sandbox):
    sandbox.fault("storage", "reset", times=1)
    with pytest.raises(exceptions.ClaidUnavailableError) as caught:
        ClaidHook().list_storages()
    assert not isinstance(caught.value, AirflowFailException)
    assert len(ClaidHook().list_storages()) == 1


def test_the_test_button_costs_nothing(sandbox):
    assert ClaidHook().test_connection() == (True, "Claid accepted the key.")
    assert sandbox.report()["totals"]["posts"] == 0


def test_the_test_button_tells_a_wrong_key(monkeypatch, sandbox):
    use(monkeypatch, sandbox, password="wrong-key")
    accepted, message = ClaidHook().test_connection()
    assert not accepted
    assert "did not accept the API key" in message
    assert "wrong-key" not in message


def test_the_test_button_accepts_a_key_without_the_storage_scope(sandbox):
    sandbox.fault("storage", "status", status=403)
    accepted, message = ClaidHook().test_connection()
    assert accepted
    assert "lacks the Storage scope" in message


def test_the_test_button_tells_a_server_that_is_away(monkeypatch, sandbox):
    use(monkeypatch, sandbox, host="http://127.0.0.1:9")
    accepted, message = ClaidHook().test_connection()
    assert not accepted
    assert "not sent" in message


@pytest.mark.parametrize(("value", "field"), [(None, "claid_conn_id"), ({"password": ""}, "password")])
def test_a_missing_connection_or_key_is_named(monkeypatch, sandbox, value, field):
    monkeypatch.delenv("AIRFLOW_CONN_CLAID_DEFAULT")
    if value:
        use(monkeypatch, sandbox, **value)
    for ask in (lambda: ClaidHook().generate("a red bicycle"), lambda: asyncio.run(ClaidHook().agenerate("a bicycle"))):
        with pytest.raises(exceptions.ClaidConfigurationError) as caught:
            ask()
        assert field in caught.value.field
    assert ClaidHook().test_connection()[0] is False


@pytest.mark.parametrize("status", [400, 401, 402, 403, 422, 429, 500])
def test_an_echoed_key_is_in_no_error_and_no_log(sandbox, caplog, status):
    sandbox.fault("generate", "status", status=status, echo_key=True, headers={"Retry-After": "999"}, times=None)
    with caplog.at_level(logging.DEBUG), pytest.raises(exceptions.ClaidError) as caught:
        ClaidHook().generate("a red bicycle")
    link, shown = caught.value, []
    while link is not None:
        shown += [str(link), repr(link), str(link.__dict__), str(link.args)]
        link = link.__cause__ or link.__context__
    assert KEY not in " ".join(shown)
    assert KEY not in caplog.text
    assert "***" in caplog.text


def test_the_hook_does_not_show_the_key():
    hook = ClaidHook()
    assert KEY not in f"{hook!r} {vars(hook)} {hook.account()!r}"


def test_awaited_in_a_forked_child_it_works_as_in_the_parent(sandbox):
    asyncio.run(ClaidHook().agenerate("a red bicycle"))
    child = os.fork()
    if child == 0:
        failed = 1
        try:
            asyncio.run(asyncio.wait_for(ClaidHook().agenerate("a red bicycle"), 20))
            failed = 0
        finally:
            os._exit(failed)
    assert os.waitpid(child, 0)[1] == 0
    assert sandbox.report()["totals"]["posts"] == 2


def test_a_store_of_records_that_fails_is_named_and_may_be_asked_again(monkeypatch, tmp_path):
    (tmp_path / "records" / "0000").mkdir(parents=True)
    (tmp_path / "records" / "0000" / "1.intent").write_bytes(b"{}")

    def fails(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("pathlib.Path.read_bytes", fails)
    with pytest.raises(exceptions.ClaidUnavailableError, match=f"{tmp_path}/records/.*cannot be read now") as caught:
        ClaidHook().submissions(records_path=f"file://{tmp_path}/records/")
    assert not isinstance(caught.value, AirflowFailException)


def test_a_bucket_of_records_that_is_not_there_is_named(bucket):
    with pytest.raises(exceptions.ClaidConfigurationError, match="s3://no-such-bucket/records/"):
        ClaidHook().submissions(records_path="s3://my_aws@no-such-bucket/records/")


@pytest.mark.parametrize("value", ['{"conn_type": "claid"', "{no json}"])
def test_a_connection_that_cannot_be_read_is_told_from_none(monkeypatch, value):
    monkeypatch.setenv("AIRFLOW_CONN_TYPO", value)
    with pytest.raises(exceptions.ClaidConfigurationError, match="cannot read from AIRFLOW_CONN_TYPO"):
        ClaidHook("typo").account()
    with pytest.raises(exceptions.ClaidConfigurationError, match="'nowhere', which is not defined"):
        ClaidHook("nowhere").account()
