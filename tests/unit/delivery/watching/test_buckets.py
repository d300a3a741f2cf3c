"""Buckets: what is found in lists and how many of them it takes, parts of objects, and all that is in the way."""

from __future__ import annotations

import errno
import http.server
import math
import os
import shutil
import socket
import tempfile
import threading
from contextlib import contextmanager, suppress
from copy import copy
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import boto3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_claid.api.errors import ClaidConfigurationError
from airflow_provider_claid.delivery.store_errors import StoreBusyError
from airflow_provider_claid.delivery.watching.buckets import Entry, LocalBucket, ObjectBucket, S3Bucket

NOW = datetime(2026, 5, 1, tzinfo=UTC)
PLACE = "s3://many/"


class FakeS3:
    """Lists as S3 does: by the bytes of the keys, `page` at a time, from behind `StartAfter` on."""

    def __init__(self, keys, page=5):
        self.keys = sorted(keys, key=str.encode)
        self.page = page
        self.lists = 0

    def call_s3(self, method, **given):
        assert (method, given["Bucket"]) == ("list_objects_v2", "many")
        self.lists += 1
        assert self.lists < 1000, "it never ends"
        start = given.get("ContinuationToken") or given.get("StartAfter", "")
        left = [key for key in self.keys if key.startswith(given["Prefix"]) and key.encode() > start.encode()]
        page = [{"Key": key, "Size": len(key), "LastModified": NOW, "ETag": "e"} for key in left[: self.page]]
        if len(left) <= self.page:
            return {"IsTruncated": False, "Contents": page} if page else {"IsTruncated": False}
        return {"IsTruncated": True, "Contents": page, "NextContinuationToken": page[-1]["Key"]}

    def pages(self, wanted):
        """Return how many pages hold all keys that begin as all wanted ones do."""
        prefix = os.path.commonprefix(list(wanted))  # noqa: RUF071 - characters are meant, not folders
        return max(1, math.ceil(sum(key.startswith(prefix) for key in self.keys) / self.page))


@cache
def plain():
    from s3fs import S3FileSystem

    return S3Bucket(S3FileSystem(anon=True), "many", PLACE, "my_aws")


@pytest.fixture(scope="module", autouse=True)
def _imported():
    plain()


def s3(fs):
    """Return the bucket as it would be with this file system."""
    bucket = copy(plain())
    bucket._fs = fs
    return bucket


short = st.text("ab/é🖼\x7f", min_size=1, max_size=4)
names = st.builds(lambda name: f"{name}.png", short)


@given(st.sets(short, max_size=40), st.lists(short, min_size=1, max_size=15), st.integers(1, 7))
def test_what_is_found_is_what_is_wanted_and_there(there, wanted, page):
    found = [entry.key for entry in s3(FakeS3(there, page)).find(wanted)]
    assert sorted(found) == sorted(there & set(wanted))


@given(st.sets(names, max_size=60), st.sets(names, min_size=1, max_size=15), st.integers(1, 7))
def test_never_more_lists_than_pages_that_hold_the_pictures_nor_than_pictures(there, wanted, page):
    fake = FakeS3(there, page)
    found = {entry.key for entry in s3(fake).find(list(wanted))}
    assert found == there & wanted
    assert fake.lists <= min(fake.pages(wanted) + 1, len(wanted))


@given(st.sets(short, max_size=60), st.sets(short, min_size=1, max_size=8), st.integers(1, 7))
def test_so_it_is_for_names_that_begin_alike_and_have_no_end(there, wanted, page):
    fake = FakeS3(there, page)
    list(s3(fake).find(list(wanted)))
    assert fake.lists <= min(fake.pages(wanted), len(wanted)) + 1


def test_many_names_before_the_wanted_one_take_no_more_lists():
    there = {f"frame{number:05}" for number in range(500)} | {"frame1", "other"}
    fake = FakeS3(there, page=10)
    assert {entry.key for entry in s3(fake).find(["frame1", "other"])} == {"frame1", "other"}
    assert fake.lists <= 3


@given(st.sets(short, max_size=40), st.sampled_from(["", "a/", "b/", "a/b/", "é/"]), st.integers(1, 7))
def test_a_walk_shows_everything_under_the_folder_once(there, prefix, page):
    fake = FakeS3(there, page)
    assert [entry.key for entry in s3(fake).walk(prefix)] == [key for key in fake.keys if key.startswith(prefix)]
    assert fake.lists == max(1, math.ceil(sum(key.startswith(prefix) for key in there) / page))


def test_a_store_that_does_not_know_where_to_start_comes_to_an_end():
    class Deaf(FakeS3):
        def call_s3(self, method, **given):
            return super().call_s3(method, Bucket=given["Bucket"], Prefix=given["Prefix"])

    wanted = ["0.png", "5.png", "9.png"]
    with suppress(StoreBusyError, ClaidConfigurationError):
        list(s3(Deaf({f"{number}.png" for number in range(10)}, page=3)).find(wanted))


@pytest.mark.parametrize(
    "open_", [lambda: s3(FakeS3(["a"])), LocalBucket, lambda: ObjectBucket(None, "x", "gs://x/", None)]
)
def test_of_nothing_nothing_is_found(open_):
    assert list(open_().find([])) == []


HARD = [
    "a b.png",
    "a+b.png",
    "Ünï/çà.png",
    "U\u0308.png",
    "50%25.png",
    "100%.png",
    "%2F.png",
    "what?.png",
    "no#1.png",
    "me@home.png",
    "日本/🖼.png",
    "back\\slash.png",
    "{x}.png",
    "[1].png",
    "*.png",
    " a.png ",
    "a\tb.png",
    "a&b<c>'\".png",
    "a//b.png",
    "/a.png",
    "./a.png",
    "deep/" * 20 + "a.png",
]
MANY = [f"m/{number:04}.png" for number in range(2500)]
BESIDE = ["a b.png", "n/a", "n/a.png", "n/a.png.part", "n/b/c.png", "n/b/", "nn.png", "plain"]


@pytest.fixture(scope="module")
def many(s3_url):
    """A file system to `many`, with 2,500 pictures put without HTTP to be quick, `few`, and `empty`."""
    from moto.s3.models import s3_backends
    from s3fs import S3FileSystem

    login = {"aws_access_key_id": "access", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=s3_url, **login)
    backend = s3_backends["123456789012"]["aws"]
    for name, keys in {"many": MANY + BESIDE, "few": HARD + BESIDE, "empty": []}.items():
        client.create_bucket(Bucket=name)
        for key in keys:
            backend.put_object(name, key, key.encode())
    fs = S3FileSystem(key="access", secret="secret", endpoint_url=s3_url, client_kwargs={"region_name": "us-east-1"})
    yield fs
    for name in ("many", "few", "empty"):
        backend.buckets.pop(name)


class Counting:
    """A file system that counts its requests."""

    def __init__(self, fs):
        self._fs = fs
        self.made = []

    def call_s3(self, method, **arguments):
        self.made.append(method)
        return self._fs.call_s3(method, **arguments)

    def __getattr__(self, name):
        return getattr(self._fs, name)


@pytest.mark.parametrize(
    ("wanted", "lists"),
    [
        (["m/0000.png", "m/2499.png"], 2),
        (["m/1234.png"], 1),
        (MANY, 3),
        ([*MANY[::500], "m/0700.jpg", "m/9.png"], 4),
        ([f"x/{number}.png" for number in range(1000)], 1),
        (["a b.png", "m/0001.png", "zzz.png"], 3),
        (["n/a", "n/a.png", "n/a.png.part", "n/a.png.part.no"], 1),
    ],
)
def test_a_thousand_pictures_are_found_in_few_lists(many, wanted, lists):
    fs = Counting(many)
    found = [entry.key for entry in s3(fs).find(wanted)]
    assert sorted(found) == sorted({*MANY, *BESIDE}.intersection(wanted))
    assert len(fs.made) <= lists


KINDS = pytest.mark.parametrize("kind", [S3Bucket, ObjectBucket])


@cache
def bucket_of(kind, fs, name="few"):
    return kind(fs, name, f"s3://{name}/", "my_aws")


@KINDS
@pytest.mark.parametrize("key", HARD)
def test_any_key_is_found_and_read(many, kind, key):
    bucket = bucket_of(kind, many)
    entries = list(bucket.find([key]))
    assert [(entry.key, entry.size) for entry in entries] == [(key, len(key.encode()))]
    assert bucket.read(key, 0, 4096) == key.encode()


@KINDS
def test_all_hard_keys_are_found_together(many, kind):
    assert {entry.key for entry in bucket_of(kind, many).find(HARD)} == set(HARD)


@KINDS
@pytest.mark.parametrize(
    ("prefix", "shown"),
    [
        ("n/", ["n/a", "n/a.png", "n/a.png.part", "n/b/c.png"]),
        ("n/b/", ["n/b/c.png"]),
        ("n/a/", []),
        ("plain/", []),
        ("none/", []),
    ],
)
def test_a_walk_shows_what_is_under_the_folder_and_nothing_beside(many, kind, prefix, shown):
    entries = [entry for entry in bucket_of(kind, many).walk(prefix) if not entry.key.endswith("/")]
    assert sorted(entry.key for entry in entries) == shown
    assert all(entry.size == len(entry.key) and entry.modified.tzinfo and entry.version for entry in entries)


@KINDS
def test_a_walk_of_a_bucket_shows_all_of_it(many, kind):
    keys = {entry.key for entry in bucket_of(kind, many).walk("")}
    assert keys - {"n/b/"} == {*HARD, *BESIDE} - {"n/b/"}


def test_a_walk_takes_a_list_for_a_thousand(many):
    fs = Counting(many)
    assert [entry.key for entry in s3(fs).walk("m/")] == MANY
    assert fs.made == ["list_objects_v2"] * 3


@KINDS
def test_an_empty_bucket_holds_nothing_and_is_no_fault(many, kind):
    bucket = bucket_of(kind, many, "empty")
    assert list(bucket.walk("")) == list(bucket.walk("f/")) == list(bucket.find(["a.png", "f/a.png"])) == []


@KINDS
def test_a_missing_bucket_fails_at_once_with_the_remedy(many, kind):
    bucket = bucket_of(kind, many, "never-made")
    for look in (lambda: list(bucket.find(["a.png"])), lambda: list(bucket.walk("")), lambda: bucket.read("a", 0, 9)):
        with pytest.raises(ClaidConfigurationError, match="Create the bucket"):
            look()


@KINDS
def test_what_was_written_meanwhile_is_seen_and_has_another_version(many, kind):
    bucket = bucket_of(kind, many)
    key = "fresh/a.png"
    assert list(bucket.find([key])) == []
    many.call_s3("put_object", Bucket="few", Key=key, Body=b"one")
    first = list(bucket.find([key]))
    many.call_s3("put_object", Bucket="few", Key=key, Body=b"three")
    second = list(bucket.find([key]))
    assert [entry.size for entry in (*first, *second)] == [3, 5]
    assert first[0].version != second[0].version
    many.call_s3("delete_object", Bucket="few", Key=key)
    assert list(bucket.find([key])) == list(bucket.walk("fresh/")) == []


@KINDS
def test_a_part_is_read_and_what_is_behind_the_end_may_pass(many, kind):
    bucket = bucket_of(kind, many)
    assert bucket.read("n/a.png", 2, 5) == b"a.p"
    assert bucket.read("n/a.png", 3, 999) == b".png"
    with pytest.raises(StoreBusyError):
        bucket.read("n/a.png", 999, 1000)
    with pytest.raises(FileNotFoundError):
        bucket.read("n/none.png", 0, 10)


ERROR = "<?xml version='1.0'?><Error><Code>{}</Code><Message>words</Message></Error>"
HTML = "<!DOCTYPE html><html><body>Sign in<br></body></html>"


def unretried(port):
    """Return a bucket of a server on this machine that is asked once."""
    from s3fs import S3FileSystem

    fs = S3FileSystem(
        key="access",
        secret="secret",
        endpoint_url=f"http://127.0.0.1:{port}",
        client_kwargs={"region_name": "us-east-1"},
        config_kwargs={"retries": {"max_attempts": 0}},
    )
    return S3Bucket(fs, "many", PLACE, "my_aws")


class Broken(http.server.BaseHTTPRequestHandler):
    """Gives one answer to everything: `status` and `body`, without its last `cut` bytes."""

    status, body, cut = 503, "", 0

    def do_GET(self):
        self.send_response(self.status)
        self.send_header("Content-Type", "text/html" if self.body == HTML else "application/xml")
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body.encode()[: len(self.body) - self.cut])

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def broken_bucket():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Broken)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield unretried(server.server_port)
    server.shutdown()
    server.server_close()


@pytest.fixture
def broken(broken_bucket, monkeypatch):
    """A bucket of a server that answers as `broken(status, body)` says."""

    def answer(status, body, cut=0):
        for name, value in {"status": status, "body": body, "cut": cut}.items():
            monkeypatch.setattr(Broken, name, value)
        return broken_bucket

    return answer


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (403, ERROR.format("AccessDenied"), ClaidConfigurationError),
        (403, ERROR.format("InvalidAccessKeyId"), ClaidConfigurationError),
        (403, ERROR.format("SignatureDoesNotMatch"), ClaidConfigurationError),
        (404, ERROR.format("NoSuchBucket"), ClaidConfigurationError),
        (404, HTML, ClaidConfigurationError),
        (404, "", ClaidConfigurationError),
        (405, ERROR.format("MethodNotAllowed"), ClaidConfigurationError),
        (503, ERROR.format("SlowDown"), StoreBusyError),
        (503, HTML, StoreBusyError),
        (502, "", StoreBusyError),
        (500, ERROR.format("InternalError"), StoreBusyError),
        (429, ERROR.format("TooManyRequests"), StoreBusyError),
        (200, HTML, (ClaidConfigurationError, StoreBusyError)),
    ],
)
def test_what_a_store_answers_becomes_one_of_three_errors(broken, status, body, kind):
    bucket = broken(status, body)
    for look in (lambda: list(bucket.find(["a.png"])), lambda: list(bucket.walk("f/"))):
        with pytest.raises(kind):
            look()


def test_a_body_that_is_cut_is_waited_for(broken):
    with pytest.raises(StoreBusyError):
        broken(200, "x" * 100, cut=50).read("a.png", 0, 100)


def test_a_server_that_is_not_there_is_waited_for():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(StoreBusyError):
        list(unretried(port).find(["a.png"]))


class OtherStore:
    """A file system that lists as those of Google and Azure do."""

    def __init__(self, found, exists=True):
        self.found = found
        self._exists = exists

    def invalidate_cache(self):
        pass

    def find(self, path, prefix="", detail=False):
        if isinstance(self.found, Exception):
            raise self.found
        return self.found

    def exists(self, path):
        return self._exists


def info(**facts):
    return {"type": "file", "size": 7, **facts}


@pytest.mark.parametrize(
    ("facts", "modified", "version"),
    [
        ({"updated": "2026-05-01T00:00:00.000Z", "etag": "CAE="}, NOW, "CAE="),
        ({"last_modified": NOW, "etag": '"0x8D"'}, NOW, '"0x8D"'),
        ({"LastModified": NOW, "ETag": '"e"'}, NOW, '"e"'),
        ({"last_modified": NOW}, NOW, str(NOW)),
    ],
)
def test_every_file_system_s_words_are_read(facts, modified, version):
    bucket = ObjectBucket(OtherStore({"b/f/a.png": info(**facts)}), "b", "gs://b/", None)
    assert list(bucket.walk("f/")) == list(bucket.find(["f/a.png"])) == [Entry("f/a.png", 7, modified, version)]


def test_folders_in_a_list_are_left_out():
    found = {"b/f": {"type": "directory", "size": 0}, "b/f/a.png": info(etag="e")}
    assert [entry.key for entry in ObjectBucket(OtherStore(found), "b", "gs://b/", None).walk("f/")] == ["f/a.png"]


def test_an_object_named_as_the_folder_is_not_in_it():
    found = {"b/f": info(etag="e")}
    assert list(ObjectBucket(OtherStore(found), "b", "abfs://b/", None).walk("f/")) == []


@pytest.mark.parametrize("found", [{}, FileNotFoundError("b/f")], ids=["nothing", "an error"])
def test_a_folder_that_is_not_there_yet_is_no_fault_but_a_bucket_is(found):
    assert list(ObjectBucket(OtherStore(found), "b", "abfs://b/", None).walk("f/")) == []
    with pytest.raises(ClaidConfigurationError, match="Create the bucket"):
        list(ObjectBucket(OtherStore(found, exists=False), "b", "abfs://b/", None).walk("f/"))


@pytest.fixture
def folder(tmp_path):
    """A folder with pictures, and its key with a final slash."""
    (tmp_path / "sub").mkdir()
    for name in ("a.png", "b.png", "sub/c.png"):
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


def key(path, *names):
    return str(Path(path, *names)).lstrip("/")


def walked(path):
    return sorted(entry.key for entry in LocalBucket().walk(f"{key(path)}/"))


def found(*paths):
    return [entry.key for entry in LocalBucket().find([key(path) for path in paths])]


def test_files_are_found_walked_and_read(folder):
    keys = [key(folder, name) for name in ("a.png", "b.png", "sub/c.png")]
    assert walked(folder) == keys
    assert found(folder / "b.png", folder / "none.png", folder / "none/a.png", folder / "a.png") == [keys[1], keys[0]]
    (entry,) = LocalBucket().find([keys[2]])
    assert (entry.size, entry.modified.tzinfo) == (9, UTC)
    assert [LocalBucket().read(keys[0], *part) for part in ((0, 2), (2, 99), (99, 120))] == [b"a.", b"png", b""]


@pytest.mark.parametrize("name", [name for name in HARD if not name.startswith(("/", "./")) and "//" not in name])
def test_any_name_of_a_file_is_found_and_read(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    assert walked(tmp_path) == found(path) == [key(path)]
    assert LocalBucket().read(key(path), 0, 9) == b"x"


def test_a_file_that_is_written_again_has_another_version(folder):
    path = folder / "a.png"
    versions = set()
    for times in ((1, 1), (1, 2), (2, 2)):
        os.utime(path, ns=times)
        versions |= {entry.version for entry in LocalBucket().find([key(path)])}
    path.write_bytes(b"longer")
    os.utime(path, ns=(2, 2))
    versions |= {entry.version for entry in LocalBucket().find([key(path)])}
    assert len(versions) == 3


def test_files_and_folders_that_vanish_during_a_walk_are_left_out(folder):
    for number in range(5):
        (folder / f"sub{number}").mkdir()
        (folder / f"sub{number}" / "d.png").write_bytes(b"x")
    walk = LocalBucket().walk(f"{key(folder)}/")
    first = next(walk)
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert {entry.key for entry in (first, *walk)} <= {key(folder, "a.png"), key(folder, "b.png")}


def test_a_file_that_vanished_since_is_missing(folder):
    with pytest.raises(FileNotFoundError):
        LocalBucket().read(key(folder, "none.png"), 0, 9)
    with pytest.raises((FileNotFoundError, StoreBusyError)):
        LocalBucket().read(key(folder, "a.png", "b.png"), 0, 9)


def test_a_folder_that_is_not_there_holds_nothing(tmp_path):
    assert walked(tmp_path / "none") == walked(tmp_path / "none" / "deeper") == []


def test_a_folder_named_as_a_picture_is_none(folder):
    (folder / "x.png").mkdir()
    assert len(walked(folder)) == 3
    assert found(folder / "x.png", folder / "a.png") == [key(folder, "a.png")]


def test_a_key_through_a_file_is_not_there(folder):
    assert found(folder / "a.png" / "b.png", folder / "b.png") == [key(folder, "b.png")]


def test_a_folder_that_is_a_file_is_told(folder):
    with pytest.raises((StoreBusyError, ClaidConfigurationError)):
        walked(folder / "a.png")


def test_links_are_followed_to_files_and_lead_nowhere_else(folder, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside") / "z.png"
    outside.write_bytes(b"z")
    (folder / "link.png").symlink_to(outside)
    (folder / "dangling.png").symlink_to(folder / "none.png")
    (folder / "sub" / "up").symlink_to(folder)
    assert walked(folder) == [key(folder, name) for name in ("a.png", "b.png", "link.png", "sub/c.png")]
    assert found(folder / "dangling.png", folder / "link.png") == [key(folder, "link.png")]


@pytest.mark.parametrize("name", ["loop.png", "loop"])
def test_a_link_to_itself_does_not_hide_the_other_pictures(folder, name):
    (folder / name).symlink_to(folder / name)
    assert len(walked(folder)) == 3
    assert found(folder / name, folder / "a.png") == [key(folder, "a.png")]


@pytest.mark.parametrize("name", ["x" * 300 + ".png", "a\0b.png", "\ud800.png"], ids=["long", "nul", "surrogate"])
def test_a_name_that_no_file_can_have_does_not_hide_the_other_pictures(folder, name):
    assert found(folder / name, folder / "a.png") == [key(folder, "a.png")]


def test_a_pipe_is_not_waited_for(folder):
    os.mkfifo(folder / "pipe.png")
    assert [entry.size for entry in LocalBucket().find([key(folder, "pipe.png")])] in ([], [0])


@contextmanager
def nobody():
    """Run as a user who may do little, where the tests run as root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def closed():
    """A folder that everyone may list, with a picture, and in it a folder that nobody may."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    (path / "a.png").write_bytes(b"x")
    (path / "closed").mkdir()
    (path / "closed" / "b.png").write_bytes(b"x")
    (path / "closed").chmod(0)
    yield path
    (path / "closed").chmod(0o700)
    shutil.rmtree(path)


def test_what_may_not_be_read_fails_at_once_with_the_remedy(closed):
    for look in (lambda: walked(closed), lambda: walked(closed / "closed"), lambda: found(closed / "closed" / "b.png")):
        with nobody(), pytest.raises(ClaidConfigurationError, match="may not be read"):
            look()
    with nobody(), pytest.raises(ClaidConfigurationError, match="may not be read"):
        LocalBucket().read(key(closed, "closed/b.png"), 0, 9)


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT])
def test_a_disk_that_fails_is_waited_for(folder, monkeypatch, code):
    def failing(*_, **__):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "stat", failing)
    with pytest.raises(StoreBusyError):
        found(folder / "a.png")
