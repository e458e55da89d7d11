"""Pieces of text that decide where a text may be cut."""

from __future__ import annotations

PIECES = [
    *["word", "Another", "sentence.", "Really?", "e.g.", "3.5", "naïve", "x" * 30, "don't", "(so)", "[UNK]"],
    *[" ", " ", " ", " ", "  ", "\n", "\r\n", "\n\n", "\n \n", "\t", "\u2028", "\u2029", "\u00a0", "\u3000"],
    *[
        "。",
        "你好",
        "北京天安门",
        "日本語を",
        "ひらがな。",
        "ภาษาไทย",
        "ဘာသာ",
        "한국어",
        "नमस्ते।",
        "😀",
        "\u0301",
    ],
    *["<s>", "<|endoftext|>", "http://a.b/?Q=c", "▁", "Σς", "ﬁ"],
]
