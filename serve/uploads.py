"""Pictures inside of JSON: base64 text, bare or as a data: URL. No address is ever fetched. What the bytes are is checked elsewhere."""

from __future__ import annotations

import base64
import binascii
import re

from sd2rt.engine.errors import InvalidArgument

DATA_URL = re.compile(r"data:image/(?:png|jpeg|jpg|webp)(?:;[\w=.+-]{1,60}){0,3};base64,", re.IGNORECASE)
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]{0,20}:", re.IGNORECASE)
PART = 262_144  # characters that are decoded at a time: no other thread runs meanwhile
EXPECTED = "expected a PNG, JPEG or WebP file as base64, bare or in a data: URL"


def read_upload(name: str, text: str) -> bytes:
    """Return the file that a field's text holds. Raises InvalidArgument for an address, and what is no base64."""
    found = DATA_URL.match(text[:200])
    if not found and ADDRESS.match(text[:30]):
        raise InvalidArgument(f"{name}: got an address ({text[:12]!r}...); {EXPECTED}; this server fetches nothing")
    try:
        content = _decode(text, found.end() if found else 0)
    except (binascii.Error, ValueError) as error:
        raise InvalidArgument(f"{name}: got what is no base64 ({error}); {EXPECTED}") from None
    if not content:
        raise InvalidArgument(f"{name}: got an empty text; {EXPECTED}")
    return content


def _decode(text: str, start: int) -> bytes:
    """Decode base64 from a place in a text on, white space left out. Raises ValueError."""
    content, rest = bytearray(), ""
    for place in range(start, len(text), PART):
        part = rest + "".join(text[place : place + PART].split())
        if part and len(content) % 3:
            raise ValueError("there is more after its padding")
        whole = len(part) // 4 * 4
        content += base64.b64decode(part[:whole], validate=True)
        rest = part[whole:]
    content += base64.b64decode(rest, validate=True)
    return bytes(content)
