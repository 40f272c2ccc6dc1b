"""What may be shown of texts that somebody else wrote.

Documents, ids, names of indices and fields, messages of servers: a control character among them
would move a terminal's cursor, set its title, or turn a line around, there and on a page.
"""

from __future__ import annotations

import re

# C0, DEL, C1, lines and paragraphs of Unicode, marks that change the direction of what follows
_CONTROL = "\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff"
_ONE_LINE = re.compile(f"[{_CONTROL}]")
_LINES = re.compile(f"(?![\n\t])[{_CONTROL}]")
_IN_JSON = re.compile("(?![\n])[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def clean(text: str, *, lines: bool = False) -> str:
    """A text with ``\ufffd`` for each control character; ``lines``: but line breaks and tabs."""
    return (_LINES if lines else _ONE_LINE).sub("\ufffd", text)


def clean_json(text: str) -> str:
    """JSON with the control characters escaped that JSON itself would leave: nothing is lost."""
    return _IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
