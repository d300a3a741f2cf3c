"""The one way of writing files of this machine: whole, durable, under nobody else's name."""

from __future__ import annotations

import errno
import os
import re
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_provider_claid.delivery import files
from airflow_provider_claid.delivery.files import NoHardLinksError, create, make_folder, replace, sync_folder

PART = re.compile(r"\.claid-[0-9a-f]{32}\.part")
WRITERS = [replace, create]
LONGEST = "é" * 127


@pytest.fixture(autouse=True)
def _nothing_looked_at():
    files._remove_left_behind.cache_clear()


def failing(code, only=lambda *_: True, real=None):
    def fail(*given, **named):
        if only(*given):
            raise OSError(code, os.strerror(code))
        return real(*given, **named)

    return fail


def is_folder(descriptor):
    return stat.S_ISDIR(os.fstat(descriptor).st_mode)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("content", [b"some", [b"so", b"", b"me"]])
def test_a_file_is_written_whole(tmp_path, write, content):
    write(tmp_path / "a", content)
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"some"


def test_an_older_file_is_replaced_and_never_created_again(tmp_path):
    replace(tmp_path / "a", b"first, and longer")
    replace(tmp_path / "a", b"second")
    assert not create(tmp_path / "a", b"third")
    assert (tmp_path / "a").read_bytes() == b"second"
    assert names(tmp_path) == ["a"]


def test_of_many_who_create_a_file_at_once_one_succeeds(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        created = list(pool.map(lambda n: create(tmp_path / "a", b"%d" % n), range(64)))
    assert sum(created) == 1
    assert (tmp_path / "a").read_bytes() == b"%d" % created.index(True)


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("name", [LONGEST, "x" * 255, "a"])
def test_the_temporary_name_has_a_constant_length_and_is_never_the_same(tmp_path, monkeypatch, write, name):
    opened, real = [], os.open
    monkeypatch.setattr(os, "open", lambda path, *given: opened.append((path, given[0])) or real(path, *given))
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / name, b"x")
    parts = [(path, flags) for path, flags in opened if os.fspath(path).endswith(".part")]
    assert len({path.name for path, _ in parts}) == 2
    for path, flags in parts:
        assert PART.fullmatch(path.name)
        assert flags & os.O_EXCL
        assert flags & os.O_NOFOLLOW


def test_a_symbolic_link_is_never_followed(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("mine")
    (tmp_path / "a").symlink_to(secret)
    assert not create(tmp_path / "a", b"x")
    replace(tmp_path / "a", b"x")
    assert (secret.read_text(), (tmp_path / "a").is_symlink()) == ("mine", False)
    (tmp_path / "b").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError):
        files._open_new(tmp_path / "b")
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("write", WRITERS)
def test_the_mode_is_that_which_was_asked_for(tmp_path, write):
    before = os.umask(0)
    try:
        write(tmp_path / "a", b"x", 0o600)
        write(tmp_path / "b", b"x")
        os.umask(0o027)
        write(tmp_path / "c", b"x")
    finally:
        os.umask(before)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "abc"] == [0o600, 0o666, 0o640]


@pytest.mark.parametrize("write", WRITERS)
def test_the_file_is_synced_before_it_gets_its_name_and_its_folder_after(tmp_path, monkeypatch, write):
    steps, real = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: steps.append((is_folder(fd), (tmp_path / "a").exists())) or real(fd))
    write(tmp_path / "a", b"x")
    assert steps == [(False, False), (True, True)]


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF])
def test_a_file_system_that_syncs_no_folders_is_no_error(tmp_path, monkeypatch, write, code):
    monkeypatch.setattr(os, "fsync", failing(code, is_folder, os.fsync))
    write(tmp_path / "a", b"x")
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("what", [is_folder, lambda fd: not is_folder(fd)])
def test_a_disk_that_fails_is_one(tmp_path, monkeypatch, write, code, what):
    monkeypatch.setattr(os, "fsync", failing(code, what, os.fsync))
    with pytest.raises(OSError, match=re.escape(os.strerror(code))):
        write(tmp_path / "a", b"x")
    assert not [name for name in names(tmp_path) if name.startswith(".")]


@pytest.mark.parametrize(
    "code", [errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV, errno.EINVAL]
)
def test_a_mount_without_hard_links_is_told_by_its_name(tmp_path, monkeypatch, code):
    monkeypatch.setattr(os, "link", failing(code))
    with pytest.raises(NoHardLinksError) as caught:
        create(tmp_path / "a", b"x")
    assert caught.value.filename == str(tmp_path)
    assert names(tmp_path) == []
    replace(tmp_path / "a", b"x")


@pytest.mark.parametrize("code", [errno.EACCES, errno.ENOSPC, errno.EIO])
def test_another_fault_of_a_link_is_none_of_that(tmp_path, monkeypatch, code):
    monkeypatch.setattr(os, "link", failing(code))
    with pytest.raises(OSError, match=re.escape(os.strerror(code))) as caught:
        create(tmp_path / "a", b"x")
    assert not isinstance(caught.value, NoHardLinksError)


def test_a_folder_is_made_durably_and_never_the_one_above(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(files, "sync_folder", synced.append)
    make_folder(tmp_path / "a", 0o700)
    make_folder(tmp_path / "a", 0o700)
    assert synced == [tmp_path]
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700
    with pytest.raises(FileNotFoundError):
        make_folder(tmp_path / "b" / "c")
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError):
        make_folder(tmp_path / "file")


def test_a_folder_that_may_not_be_read_is_written_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "open", failing(errno.EACCES, lambda path, flags: flags & os.O_DIRECTORY, os.open))
    sync_folder(tmp_path)


def age(path, seconds):
    then = path.parent.stat().st_mtime - seconds
    os.utime(path, (then, then), follow_symlinks=False)


@pytest.mark.parametrize("write", WRITERS)
def test_what_a_kill_left_behind_is_removed_by_the_next_writer_an_hour_later(tmp_path, write):
    old, young = (tmp_path / f".claid-{digit * 32}.part" for digit in "ab")
    kept = [tmp_path / name for name in (".claid-x.part", ".a.part", "picture.png", f".claid-{'c' * 32}.part.png")]
    for path in (old, young, *kept):
        path.write_text("half")
    (tmp_path / f".claid-{'d' * 32}.part").symlink_to(tmp_path / "picture.png")
    (tmp_path / f".claid-{'e' * 32}.part").mkdir()
    for path in tmp_path.iterdir():
        age(path, 3700)
    age(young, 3500)
    before = set(tmp_path.iterdir())
    write(tmp_path / "new", b"x")
    assert before - set(tmp_path.iterdir()) == {old}


def test_a_folder_is_looked_through_once_an_hour_and_not_to_its_end(tmp_path, monkeypatch):
    looked, real = [], files.left_behind
    monkeypatch.setattr(files, "left_behind", lambda folder: looked.append(folder) or real(folder))
    for number in range(3):
        replace(tmp_path / str(number), b"x")
    (tmp_path / "below").mkdir()
    replace(tmp_path / "below" / "x", b"x")
    assert looked == [tmp_path, tmp_path / "below"]
    monkeypatch.setattr(files, "LOOKED_AT", 2)
    seen, scandir = [], os.scandir

    class Counted:
        def __init__(self, folder):
            self.entries = scandir(folder)

        def __enter__(self):
            return (seen.append(entry) or entry for entry in self.entries)

        def __exit__(self, *_):
            self.entries.close()

    monkeypatch.setattr(os, "scandir", Counted)
    list(real(tmp_path))
    assert len(seen) == 2
