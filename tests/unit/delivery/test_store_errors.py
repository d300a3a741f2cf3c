"""What the exceptions of stores mean: gone, passing, or a fault that fails at once with its remedy."""

from __future__ import annotations

import asyncio
import errno
import itertools
import ssl
from types import SimpleNamespace

import aiohttp
import pytest
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError
from fsspec.exceptions import FSTimeoutError
from s3fs.errors import translate_boto_error

from airflow_provider_claid.api.errors import ClaidConfigurationError, ClaidInputError, ClaidUnavailableError
from airflow_provider_claid.delivery import store_errors as module
from airflow_provider_claid.delivery.store_errors import StoreBusyError, missing_bucket, store_errors

PLACE = "s3://pictures/f/"
FORMS = ["botocore", "s3fs"]


def meaning(error, conn_id="my_aws"):
    """Return what the error becomes."""
    try:
        with store_errors(PLACE, conn_id):
            raise error
    except Exception as meant:  # noqa: BLE001 - it is what is asked for
        return meant


def refusal(code, status, message="The store's own words"):
    answer = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return boto.ClientError(answer, "GetObject")


def raised(form, code, status):
    error = refusal(code, status)
    return translate_boto_error(error) if form == "s3fs" else error


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("code", "status"), [("NoSuchKey", 404), ("404", 404), ("NoSuchVersion", 404)])
def test_an_object_that_is_not_there_is_missing(form, code, status):
    assert type(meaning(raised(form, code, status))) is FileNotFoundError


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("SlowDown", 503),
        ("ServiceUnavailable", 503),
        ("503", 503),
        ("InternalError", 500),
        ("500", 500),
        ("BadGateway", 502),
        ("GatewayTimeout", 504),
        ("OperationAborted", 409),
        ("TooManyRequests", 429),
        ("InvalidRange", 416),
        ("416", 416),
        ("TemporaryRedirect", 307),
        ("RequestTimeout", 400),
        ("Throttling", 400),
        ("ThrottlingException", 400),
        ("RequestThrottled", 400),
    ],
)
def test_what_may_pass_is_waited_for(form, code, status):
    busy = meaning(raised(form, code, status))
    assert type(busy) is StoreBusyError
    assert code in str(busy)


LOGIN, RIGHTS, BUCKET, ADDRESS = "login and password", "rights to list", "Create the bucket", "region and endpoint"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("code", "status", "remedy"),
    [
        ("NoSuchBucket", 404, BUCKET),
        ("InvalidAccessKeyId", 403, LOGIN),
        ("SignatureDoesNotMatch", 403, LOGIN),
        ("ExpiredToken", 400, LOGIN),
        ("InvalidToken", 400, LOGIN),
        ("Unauthorized", 401, LOGIN),
        ("AccessDenied", 403, RIGHTS),
        ("AllAccessDisabled", 403, RIGHTS),
        ("403", 403, RIGHTS),
        ("InvalidBucketName", 400, ADDRESS),
        ("InvalidArgument", 400, ADDRESS),
        ("400", 400, ADDRESS),
        ("MethodNotAllowed", 405, ""),
        ("IllegalLocationConstraintException", 400, ""),
        ("RequestTimeTooSkewed", 403, ""),
        ("InvalidClientTokenId", 403, ""),
        ("ExpiredTokenException", 400, ""),
        ("PermanentRedirect", 301, ADDRESS),
        ("301", 301, ADDRESS),
        ("NotImplemented", 501, ""),
    ],
)
def test_what_a_person_must_mend_fails_at_once_with_the_remedy(form, code, status, remedy):
    fault = meaning(raised(form, code, status))
    assert type(fault) is ClaidConfigurationError
    assert remedy in str(fault)
    assert all(part in str(fault) for part in (PLACE, "'my_aws'", code))


@pytest.mark.parametrize("form", FORMS)
def test_a_header_made_for_another_region_is_mended_by_the_region_not_by_the_password(form):
    assert "region" in str(meaning(raised(form, "AuthorizationHeaderMalformed", 400)))


CERTIFICATE = ssl.SSLCertVerificationError(1, "certificate verify failed: self-signed certificate")
PASSING_CLIENT_ERRORS = [
    boto.EndpointConnectionError(endpoint_url="https://s3"),
    boto.ConnectTimeoutError(endpoint_url="https://s3"),
    boto.ReadTimeoutError(endpoint_url="https://s3"),
    boto.ConnectionClosedError(endpoint_url="https://s3"),
    boto.ProxyConnectionError(proxy_url="http://proxy"),
    boto.HTTPClientError(error=OSError("x")),
    boto.ResponseStreamingError(error=OSError("x")),
    boto.IncompleteReadError(actual_bytes=1, expected_bytes=2),
    boto.SSLError(endpoint_url="https://s3", error=ssl.SSLEOFError(8, "EOF occurred in violation of protocol")),
    aiohttp.ClientPayloadError("not all data"),
    aiohttp.ServerDisconnectedError(),
    FSTimeoutError("slow"),
    TimeoutError(),
    ConnectionResetError(errno.ECONNRESET, "reset"),
    OSError(errno.EIO, "input/output error"),
    OSError(errno.ESTALE, "stale file handle"),
]


@pytest.mark.parametrize("error", PASSING_CLIENT_ERRORS, ids=lambda error: type(error).__name__)
def test_a_way_to_the_store_that_breaks_is_waited_for(error):
    assert type(meaning(error)) is StoreBusyError


@pytest.mark.parametrize(
    "error",
    [
        boto.NoCredentialsError(),
        boto.PartialCredentialsError(provider="env", cred_var="secret"),
        boto.TokenRetrievalError(provider="sso", error_msg="x"),
        boto.NoRegionError(),
        boto.InvalidRegionError(region_name="a b"),
        boto.ProfileNotFound(profile="x"),
        boto.ParamValidationError(report="Invalid bucket name"),
        boto.UnknownSignatureVersionError(signature_version="x"),
        PermissionError(errno.EACCES, "Permission denied"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_fault_of_this_machine_or_its_settings_fails_at_once(error):
    assert type(meaning(error)) is ClaidConfigurationError


def test_a_certificate_that_does_not_verify_fails_at_once():
    error = boto.SSLError(endpoint_url="https://s3", error=CERTIFICATE)
    error.__cause__ = CERTIFICATE
    assert type(meaning(error)) is ClaidConfigurationError


def test_an_answer_that_is_no_store_s_does_not_come_out_raw():
    error = ResponseParserError("Unable to parse response (syntax error: line 1, column 0), invalid XML received")
    assert type(meaning(error)) in {ClaidConfigurationError, StoreBusyError}


def azure_error(kind, status, code):
    core = pytest.importorskip("azure.core.exceptions")
    blob = pytest.importorskip("azure.storage.blob")

    answer = SimpleNamespace(reason="x", status_code=status, headers={}, text=str) if status else None
    error = getattr(core, kind)(message="The store's own words", response=answer)
    if code:
        known = {each.value for each in blob.StorageErrorCode}
        error.error_code = blob.StorageErrorCode(code) if code in known else code
    return error


@pytest.mark.parametrize(
    ("kind", "status", "code", "remedy"),
    [
        ("ResourceNotFoundError", 404, "ContainerNotFound", BUCKET),
        ("ResourceExistsError", 409, "ContainerBeingDeleted", BUCKET),
        ("ClientAuthenticationError", 403, "AuthenticationFailed", LOGIN),
        ("ClientAuthenticationError", 401, "NoAuthenticationInformation", LOGIN),
        ("ClientAuthenticationError", 401, None, LOGIN),
        ("ClientAuthenticationError", None, None, LOGIN),
        ("HttpResponseError", 400, "InvalidAuthenticationInfo", LOGIN),
        ("HttpResponseError", 403, "AuthorizationFailure", RIGHTS),
        ("HttpResponseError", 403, "AuthorizationPermissionMismatch", RIGHTS),
        ("HttpResponseError", 403, "AccountIsDisabled", RIGHTS),
        ("HttpResponseError", 400, "InvalidResourceName", ADDRESS),
    ],
)
def test_a_fault_of_azure_fails_at_once_with_the_remedy(kind, status, code, remedy):
    fault = meaning(azure_error(kind, status, code))
    assert type(fault) is ClaidConfigurationError
    assert remedy in str(fault)
    assert (code or kind) in str(fault)


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        ("HttpResponseError", 503, "ServerBusy"),
        ("HttpResponseError", 500, "OperationTimedOut"),
        ("HttpResponseError", 500, "InternalError"),
        ("HttpResponseError", 416, "InvalidRange"),
        ("HttpResponseError", 429, None),
        ("IncompleteReadError", None, None),
        ("IncompleteReadError", 206, None),
    ],
)
def test_an_azure_that_is_busy_is_waited_for(kind, status, code):
    assert type(meaning(azure_error(kind, status, code))) is StoreBusyError


@pytest.mark.parametrize("code", ["BlobNotFound", "ResourceNotFound", None])
def test_a_blob_that_is_not_there_is_missing(code):
    assert type(meaning(azure_error("ResourceNotFoundError", 404, code))) is FileNotFoundError


@pytest.mark.parametrize(
    "kind", ["ServiceRequestError", "ServiceResponseError", "ServiceRequestTimeoutError", "ServiceResponseTimeoutError"]
)
def test_a_way_to_azure_that_breaks_is_waited_for(kind):
    core = pytest.importorskip("azure.core.exceptions")
    assert type(meaning(getattr(core, kind)("Cannot connect to host"))) is StoreBusyError


class HttpError(Exception):
    """As gcsfs.retry.HttpError: nothing but `code` and `message`."""

    def __init__(self, code, message=""):
        self.code = code
        self.message = f"{message}, {code}"
        super().__init__(self.message)


class GoogleAuthError(Exception):
    """As that of google.auth."""


class TransportError(GoogleAuthError):
    """As that of google.auth: the way to the server of tokens broke."""


class DefaultCredentialsError(GoogleAuthError):
    """As that of google.auth."""


class RefreshError(GoogleAuthError):
    """As that of google.auth."""


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (HttpError(401, "Invalid Credentials"), LOGIN),
        (HttpError("401", "Login Required"), LOGIN),
        (DefaultCredentialsError("Your default credentials were not found"), LOGIN),
        (RefreshError("invalid_grant: Account not found"), LOGIN),
        (OSError("Forbidden: https://storage.googleapis.com/o\nno storage.objects.list"), RIGHTS),
        (HttpError(400, "Required"), ADDRESS),
        (ValueError("Bad Request: https://storage.googleapis.com/o\ninvalid bucket name"), ""),
    ],
    ids=str,
)
def test_a_fault_of_google_fails_at_once_with_the_remedy(error, remedy):
    fault = meaning(error)
    assert type(fault) is ClaidConfigurationError
    assert remedy in str(fault)


@pytest.mark.parametrize(
    "error",
    [HttpError(503, "Backend Error"), HttpError("500"), HttpError(429), HttpError(408), TransportError("timed out")],
    ids=str,
)
def test_a_google_that_is_busy_is_waited_for(error):
    assert type(meaning(error)) is StoreBusyError


@pytest.mark.parametrize("error", [FileNotFoundError("b/o"), HttpError(404, "No such object")], ids=str)
def test_an_object_of_google_that_is_not_there_is_missing(error):
    assert type(meaning(error)) is FileNotFoundError


@pytest.mark.parametrize("code", ["NoSuchBucket", "AccessDenied", "SlowDown", "NoSuchKey"])
def test_what_lies_below_other_exceptions_is_found(code):
    status = {"NoSuchBucket": 404, "AccessDenied": 403, "SlowDown": 503, "NoSuchKey": 404}[code]
    low, middle, high = refusal(code, status), OSError("in between"), RuntimeError("on top")
    high.__cause__, middle.__context__ = middle, low
    assert type(meaning(high)) is type(meaning(refusal(code, status)))


def test_what_was_put_aside_by_from_none_does_not_count():
    error = FileNotFoundError("not in this place either")
    error.__context__, error.__suppress_context__ = PermissionError("an earlier place"), True
    assert type(meaning(error)) is FileNotFoundError


def test_exceptions_that_cause_each_other_come_to_an_end():
    one, two = OSError("one"), OSError("two")
    one.__cause__, two.__cause__ = two, one
    assert len(list(itertools.islice(module._chain(one), 10))) == 2


@pytest.mark.parametrize("answer", [{}, {"Error": {}}, {"Error": {"Message": "x"}}, {"ResponseMetadata": {}}], ids=repr)
def test_an_answer_without_a_code_does_not_hide_the_cause_below(answer):
    error = boto.ClientError(answer, "GetObject")
    error.__cause__ = refusal("ExpiredToken", 400)
    assert LOGIN in str(meaning(error))


@pytest.mark.parametrize("name", ["NoSuchBucket.png", "NoSuchBucket/a.png", "Forbidden: a.png"])
def test_the_name_of_an_object_is_not_taken_for_a_fault(name):
    assert type(meaning(FileNotFoundError(f"pictures/{name}"))) is FileNotFoundError
    assert type(meaning(FileNotFoundError(errno.ENOENT, "No such file", f"/{name}"))) is FileNotFoundError


OURS = [
    StoreBusyError("it may pass"),
    ClaidInputError("images", "x", "y"),
    ClaidConfigurationError("storage_conn_id", "x", "y"),
    ClaidUnavailableError("x"),
]


@pytest.mark.parametrize("error", OURS, ids=lambda error: type(error).__name__)
def test_our_own_errors_come_out_unchanged(error):
    assert meaning(error) is error


@pytest.mark.parametrize("error", [KeyError("x"), AssertionError("x"), AttributeError("x"), ZeroDivisionError()])
def test_a_mistake_of_ours_is_not_taken_for_a_fault_of_the_store(error):
    assert meaning(error) is error


@pytest.mark.parametrize("kind", [asyncio.CancelledError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_interruption_comes_out_unchanged(kind):
    with pytest.raises(kind), store_errors(PLACE, None):
        raise kind


def test_without_an_error_nothing_happens():
    with store_errors(PLACE, None):
        pass


def test_without_a_connection_the_machine_s_credentials_are_named():
    assert "credentials of this machine for s3://pictures/f/" in str(meaning(refusal("AccessDenied", 403), None))


@pytest.mark.parametrize("conn_id", [None, "my_aws"])
def test_a_missing_bucket_is_named_with_the_remedy(conn_id):
    error = missing_bucket(PLACE, conn_id)
    assert (error.field, error.retryable) == ("storage_conn_id", False)
    assert PLACE in str(error) and BUCKET in str(error)


@pytest.mark.parametrize(("code", "status"), [("AccessDenied", 403), ("SlowDown", 503)])
def test_long_words_of_a_store_are_cut(code, status):
    error = meaning(refusal(code, status, "x" * 100_000))
    assert len(str(error)) < 800


@pytest.mark.parametrize("error", [refusal("AccessDenied", 403), refusal("SlowDown", 503), refusal("NoSuchKey", 404)])
def test_the_store_s_own_exception_stays_as_the_cause(error):
    assert meaning(error).__cause__ is error
