"""Texts on which tokenizers and models differ, if they do."""

from __future__ import annotations

TEXTS = (
    "The quick brown fox jumps over the lazy dog.",
    "the quick brown fox",
    "  two spaces before, and behind  ",
    "tabs\tand\nlines\r\nand\u00a0more\u2028of them",
    "Ünïcode, naïve café, Ångström, e\u0301 and é",
    "ﬁne ﬂour, ½ cup, ² and ™",
    "İstanbul'da \u0131spanak, STRASSE straße ΟΔΟΣ",
    "Привет, мир! Ёлка и ёж",
    "Καλημέρα κόσμε",
    "東京都に住んでいます。日本語の文です",
    "中文没有空格\uff0c词和词之间",
    "안녕하세요, 서울의 강",
    "مرحبا بالعالم، كيف الحال؟",
    "नमस्ते दुनिया",
    "สวัสดีชาวโลก",
    "שלום עולם",
    "emoji 🙃 👩‍👩‍👧 🇩🇪 ☃",
    "control\x00characters\x07 and \u200b\ufeff zero width",
    "[CLS] and [SEP], [MASK], [UNK] and [PAD]",
    "<s> and </s>, <mask>, <unk> and <pad>",
    "don't, it's, we'll; U.S.A. v1.2.3 (see [4], p. 5-6)",
    "a.b ... ##ing _snake_case camelCase kebab-case",
    "https://example.org/path?query=1&x=%20#part me@example.org",
    "3.14159 1,000,000 0xFF 2024-01-31 50% $5 №7",
    "def f(x):\n    return {x: x**2}  # comment",
    "pneumonoultramicroscopicsilicovolcanoconiosis" * 3,
    "SHOUTED TITLE OF A TEXT",
    "cats cat's catalogues concatenated",
    "x",
    "",
)
"""Six scripts and more, accents, emoji, control characters, literal special tokens."""

LONG = "A sentence that is written again and again fills every model. "
