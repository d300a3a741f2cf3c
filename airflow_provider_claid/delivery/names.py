"""
What a file may be called: one place decides, in bytes, before anything is sent.

A disk takes 255 bytes of a name (in UTF-8, so 85 characters of Chinese), S3, Google Cloud and Azure 1,024 of a whole
key. What is added to a name counts: `-4.webp`, and a suffix that keeps it from another job's file.
"""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_provider_claid.api.errors import ClaidInputError
from airflow_provider_claid.delivery.values import is_blank, is_visible, text_of

if TYPE_CHECKING:
    from airflow_provider_claid.delivery.checks import Target

NAME_BYTES, KEY_BYTES, PATH_BYTES = 255, 1024, 4095
"""The most that a name on a disk, a key of an object store and a path of this machine may have."""

AROUND = len("-xxxxxxxx") + len("-4.webp")
"""Bytes that delivery adds to the name of a job: what makes it unique, the picture's number and its end."""

STEM_BYTES = NAME_BYTES - AROUND
"""The most that the name of a job may have, wherever it goes: what is in a bucket today is on a disk tomorrow."""

MANIFEST_BYTES = 200
"""The most that the name of a manifest may have before its end; `.jsonl.batch` and temporary names are longer."""

LEAST_ROOM = 48
"""Bytes that a folder has to leave for names: those of records, manifests and jobs that nobody has named."""

STORES = frozenset({"s3", "s3a", "s3n", "gs", "gcs", "abfs", "abfss", "adl"})
_SIGNS = frozenset(" .+@=,~_-")
_JOINERS = frozenset("\u200c\u200d")
# What most names are; one look is ten times as fast as one for each character.
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9 .+@=,~_-]*")
_PICTURE_END = re.compile(r"\.(png|jpe?g|webp|avif)$", re.IGNORECASE)


def check_name(filename: Any, field: str = "filename", *, most: int = STEM_BYTES) -> str:
    """
    Return a file name without a picture's end (`.png`, since `-1.png` is added), in Unicode's form NFC.

    Letters of every script with their marks, digits and a few signs are accepted, `most` bytes of them in UTF-8. Raises
    `ClaidInputError` that names the first other character.
    """
    text = text_of(filename)
    if not isinstance(text, str):
        raise _refused(filename, field, most, _no_text(text))
    stem = stem_of(text)
    check_stem(stem, field, most, came=text)
    return stem


def check_stem(stem: str, field: str, most: int, came: str | None = None) -> None:
    """Raise `ClaidInputError` for a name, as it is without its end, that has a wrong character or is too long."""
    if len(stem) <= most and _PLAIN.fullmatch(stem):
        return
    if fault := _fault(unicodedata.normalize("NFC", stem), most):
        raise _refused(stem if came is None else came, field, most, fault)


def stem_of(name: str) -> str:
    """Return a name in form NFC and without a picture's end."""
    name = unicodedata.normalize("NFC", name)
    return _PICTURE_END.sub("", name) if "." in name else name


def name_key(name: Any) -> str:
    """
    Return what tells the files of two names or ids apart: equal for `42`, "42" and "42.png", for `A` and `a`.

    Many file systems take no notice of case, nor of how an accent is put together. "" is for what is no name: None, a
    blank, True. Takes any text, also one that `check_name` refuses. Pure; costs nothing.
    """
    text = text_of(name)
    if not isinstance(text, str) or is_blank(text):
        return ""
    if text.isascii():
        return stem_of(text).lower()
    # Unicode's canonical caseless matching (D145).
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", stem_of(text)).casefold())


def room_in(target: Target | None, disk: int = NAME_BYTES) -> int:
    """Return how many bytes the name of a job may have in this folder; `disk` is what its file system takes. Pure."""
    if target is None:
        return STEM_BYTES
    folder = len(_inside(target).encode("utf-8", "surrogatepass"))
    if target.scheme in STORES:
        return min(STEM_BYTES, KEY_BYTES - folder - AROUND)
    if target.scheme == "file":
        return min(STEM_BYTES, disk - AROUND, PATH_BYTES - folder - AROUND)
    return STEM_BYTES


def check_folder(target: Target, field: str) -> None:
    """Raise `ClaidInputError` for a folder whose path leaves no room for the names of files."""
    room = room_in(target)
    if room < LEAST_ROOM:
        length = len(_inside(target).encode("utf-8", "surrogatepass"))
        most = length - (LEAST_ROOM - room)
        raise ClaidInputError(field, f"a folder of {length} bytes", f"at most {most} bytes there", "Shorten its path.")
    if target.scheme == "file":
        for part in _inside(target).split("/"):
            if len(part.encode("utf-8", "surrogatepass")) > NAME_BYTES:
                raise ClaidInputError(field, f"{part!r:.80}", f"at most {NAME_BYTES} bytes of a folder's name")


def check_key(target: Target | None, stem: str, field: str, disk: int = NAME_BYTES) -> None:
    """Raise `ClaidInputError` for the name of a job that is too long for this folder; a checked name is meant."""
    room, length = room_in(target, disk), len(stem.encode())
    if length > room:
        where = f" in {target.uri:.200}" if target else ""
        came = f"{stem!r:.80} ({length} bytes)"
        raise ClaidInputError(field, came, f"at most {room} bytes{where}", "Shorten it, or the path of the folder.")


def disk_limit(target: Target | None) -> int:
    """Ask the file system of a local folder, or of what there is of it, how many bytes a name may have. Blocks."""
    if target is None or target.scheme != "file":
        return NAME_BYTES
    path = Path(urlsplit(target.uri).path)
    for each in (path, *path.parents):
        try:
            most = os.pathconf(each, "PC_NAME_MAX")
        except (OSError, ValueError):
            continue
        return min(most, NAME_BYTES) if most > 0 else NAME_BYTES
    return NAME_BYTES


def _inside(target: Target) -> str:
    """Return the path of a folder in its bucket, or on this machine."""
    path = urlsplit(target.uri).path
    return path if target.scheme == "file" else path.lstrip("/")


def _refused(came: Any, field: str, most: int, fault: str) -> ClaidInputError:
    accepted = (
        f"letters with their marks, digits, spaces and .+@=,~_-, beginning with a letter or digit, at most {most} bytes"
    )
    return ClaidInputError(field, f"{came!r:.80}", accepted, fault)


def _no_text(value: Any) -> str:
    if isinstance(value, float):
        return "A number of this size has lost digits: give it as a text."
    return "Give a text."


def _fault(stem: str, most: int) -> str:
    """Say what is wrong with a name; "" if nothing is."""
    if not stem:
        return "It is empty, or a picture's end only."
    for place, character in enumerate(stem):
        if not _is_accepted(stem, place):
            hint = " Folders go into save_to." if character in "/\\" else ""
            name = unicodedata.name(character, "a character without a name")
            return f"Leave out U+{ord(character):04X} ({name}), character {place + 1}.{hint}"
    if (length := len(stem.encode())) > most:
        return f"It has {length} bytes in UTF-8, of which a disk takes 255 with what is added to a name."
    return ""


def _is_accepted(stem: str, place: int) -> bool:
    character = stem[place]
    if character in _JOINERS:
        return _is_joined(stem, place)
    if place == 0:
        return _is_letter(character)
    return character in _SIGNS or _is_letter(character) or _is_mark(character)


def _is_joined(stem: str, place: int) -> bool:
    """Tell whether a joiner stands where scripts of India and Iran need one, and not where it only hides."""
    before, after = stem[place - 1 : place], stem[place + 1 : place + 2]
    if not (before and (_is_letter(before) or _is_mark(before))):
        return False
    return any(not each.isascii() and (_is_letter(each) or _is_mark(each)) for each in (before, after) if each)


def _is_letter(character: str) -> bool:
    return character.isalnum() and is_visible(character)


def _is_mark(character: str) -> bool:
    return unicodedata.category(character).startswith("M")
