"""What is done to a text before it is tokenized: normalised if wished, and found empty or not."""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

Normalization = Literal["none", "nfkc"]

# White space, control characters, what Unicode calls default ignorable (zero-width and direction
# marks, fillers, variation selectors, tags), the blank Braille pattern, and characters that stand
# for what could not be decoded. Ranges, since looking every character up costs a start 0.2 s.
_CONTENT = re.compile(
    "[^\\s\x00-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    "\u2028-\u202e\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\uffff"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


def has_content(text: str) -> bool:
    """Whether a text has any character that a reader could see."""
    return _CONTENT.search(text) is not None


def normalized(text: str, form: Normalization) -> str:
    """A text in a Unicode normal form: ``nfkc`` makes ﬁ to fi, and ＡＢＣ to ABC."""
    return text if form == "none" else unicodedata.normalize("NFKC", text)
