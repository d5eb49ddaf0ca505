"""The lines of a delimited text file: whether each is UTF-8 and has the fields of the header, before anything reads it.

A reader of CSV takes a line that was cut short for one with empty fields, and a quote that nobody closed for a field of many
lines. Here each line stands alone. Whole files pass at the pace of a copy; lines are looked at only where a block is odd.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from corsar.errors import DataError
from corsar.sources.files import SEPARATORS
from corsar.sources.findings import Finding

BLOCK = 1 << 18  # bytes at a time: what fits the cache of a core passes twice as fast; no line is so long
AGAIN = "write it as UTF-8 text whose lines all have the fields of the header, or fetch it again"


def check_lines(path: Path) -> list[Finding]:
    """What is wrong with lines of the file, by kind; nothing where all are whole."""
    return list(_found(path).values())


def refuse_lines(path: Path) -> None:
    """Nothing, where all lines of the file are whole.

    Raises:
        DataError: naming the first line that is not.
    """
    if found := check_lines(path):
        raise DataError(f"{found[0].sentence()}; {AGAIN}.")


def _found(path: Path) -> dict[str, Finding]:
    found: dict[str, Finding] = {}

    def note(what: str, line: int, rows: int = 1) -> None:
        old = found.get(what, Finding("malformed", path.name, "", 0, f"line {line}", what))
        found[what] = old._replace(rows=old.rows + rows)

    with path.open("rb") as file:
        header = file.readline(BLOCK)
        comma = max(SEPARATORS, key=header.decode("latin-1").count).encode()
        if what := _wrong_header(header, comma):
            note(what, 1)
            return found
        fields = _outside(header).count(comma) + 1
        line = 2
        for block in _blocks(file):
            if not _is_whole(block, comma, fields):
                for place, one in enumerate(block.removesuffix(b"\n").split(b"\n"), line):
                    if what := _wrong_line(one, comma, fields):
                        note(what, place)
            line += block.count(b"\n")
    if line == 2:
        note("is the header alone: there are no rows", 1)
    return found


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    """Blocks of whole lines, each with its end; empty lines at the end of the file are left out."""
    rest, blank = b"", b""
    while more := file.read(BLOCK):
        head, end, tail = (rest + more).rpartition(b"\n")
        if not end and len(tail) <= BLOCK:
            rest = tail
            continue
        if not end:  # no line is so long: it will be called short of fields
            head, end, tail = tail, b"\n", b""
        whole, rest = head + end, tail
        kept = whole.rstrip(b"\r\n")
        if kept:
            cut = whole.index(b"\n", len(kept)) + 1  # the end of the last line that holds something
            yield blank + whole[:cut]
            blank = whole[cut:]
        else:
            blank += whole
    if rest.strip(b"\r\n"):
        yield blank + rest + b"\n"


def _outside(text: bytes) -> bytes:
    """What stands outside of quotes."""
    return b"".join(text.split(b'"')[::2])


def _is_whole(block: bytes, comma: bytes, fields: int) -> bool:
    try:
        block.decode("utf-8")
    except UnicodeDecodeError:
        return False
    parts = block.split(b'"')
    if len(parts) % 2 == 0 or b"\0" in block or b"\n" in b"".join(parts[1::2]):
        return False
    outside = b"".join(parts[::2])
    # a line too short makes up for one too long here; the reader stops at the one too long
    return outside.count(comma) == (fields - 1) * outside.count(b"\n")


def _wrong_line(line: bytes, comma: bytes, fields: int) -> str:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return "is not UTF-8"
    if b"\0" in line:
        return "holds a byte 0"
    if line.count(b'"') % 2:
        return "has a quote that is not closed"
    number = _outside(line).count(comma) + 1
    if number < fields:
        return f"is cut short: it has fewer than the {fields} fields of the header"
    return f"has more than the {fields} fields of the header: a list without quotes?" if number > fields else ""


def _wrong_header(header: bytes, comma: bytes) -> str:
    if not header.strip():
        return "is empty: the file has no header" if not header else "is empty: the first line must be the header"
    try:
        names = header.decode("utf-8-sig").strip().split(comma.decode())
    except UnicodeDecodeError:
        return "is not UTF-8"
    if "\0" in header.decode("utf-8"):
        return "holds a byte 0"
    twice = {name for name in names if names.count(name) > 1}
    return f"names the column {sorted(twice)[0]!r} twice" if twice else ""
