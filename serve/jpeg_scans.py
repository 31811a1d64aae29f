"""How many scans a JPEG file has: a progressive one may have as many as it has bytes for, and each costs a pass over all pixels."""

from __future__ import annotations

import re

MOST_SCANS = 100  # progressive files have about ten
MOST_SEGMENTS = 10_000  # are looked at
START_OF_SCAN, END_OF_IMAGE = b"\xff\xda", 0xD9
SEGMENT = re.compile(rb"\xff[\xc0-\xcf\xd9-\xfe]")
"""What begins a segment, or ends the picture: not the stuffing and restarts inside of a scan."""


def has_many_scans(content: bytes) -> bool:
    """Whether a JPEG file has more scans than any that is taken. Reads segments' heads alone, as decoders do, up to the picture's end."""
    if content.count(START_OF_SCAN) <= MOST_SCANS:
        return False
    place, scans = 2, 0
    for _ in range(MOST_SEGMENTS):
        found = SEGMENT.search(content, place)
        if found is None or found[0][1] == END_OF_IMAGE:  # what is behind it is no part of the picture
            return False
        scans += found[0] == START_OF_SCAN
        if scans > MOST_SCANS:
            return True
        place = found.end() + int.from_bytes(content[found.end() : found.end() + 2])
    return True
