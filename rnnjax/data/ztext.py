"""Bibles as CrossWire's zText modules keep them: verses in compressed blocks, found by two tables."""

from __future__ import annotations

import re
import struct
import zlib

Place = tuple[str, str, int]  # book, chapter, verse


def verses(files: dict[str, bytes], module: str) -> dict[Place, str]:
    """``{(book, chapter, verse): text}`` of a module's Old and New Testament, without its marks and notes."""
    found: dict[Place, str] = {}
    for part in ("ot", "nt"):
        chapter, verse = ("", ""), 0
        for entry in entries(*(files[f"{module}/{part}.{end}"] for end in ("bzs", "bzv", "bzz"))):
            text = plain(entry)
            begins = re.search(r'<chapter [^>]*osisID="([^".]+)\.(\d+)"[^>]*sID=', entry)
            if begins and not text:
                chapter, verse = (begins[1], begins[2]), 0
            elif not text and re.search(r'<div [^>]*type="book"', entry):
                chapter = ("", "")
            elif chapter[0]:
                verse += 1
                if text:
                    found[chapter[0], chapter[1], verse] = text
    return found


def entries(blocks: bytes, places: bytes, packed: bytes) -> list[str]:
    """Every entry: ``places`` has its block, start and size (10 bytes), ``blocks`` where that lies in ``packed`` (12 bytes)."""
    opened: dict[int, bytes] = {}
    found = []
    for block, start, size in struct.iter_unpack("<IIH", places[: len(places) // 10 * 10]):
        if size and block not in opened:
            at, length, _ = struct.unpack_from("<III", blocks, 12 * block)
            opened[block] = zlib.decompress(packed[at : at + length])
        found.append(opened[block][start : start + size].decode() if size else "")
    return found


def plain(entry: str) -> str:
    """The words of an entry: no notes, no headings, no marks."""
    words = re.sub(r"<note\b.*?</note>|<title\b.*?</title>", " ", entry, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", "", words).split())
