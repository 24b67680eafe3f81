"""Validation of names, and escaping of untrusted text."""

from __future__ import annotations

import hashlib
import unicodedata

NAME_LENGTH = 200
"""Largest number of characters in a name that the ledger accepts."""
_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that change the direction of the surrounding text; no language needs them in a name."""
_FORMULAS = frozenset("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
"""First characters of a formula, the last four in full width."""
_REFUSED = frozenset(("Cc", "Cs", "Zl", "Zp"))  # control characters, lone surrogates, line and paragraph separators


def clean_name(text: str) -> str:
    """Validate a name for the ledger: one line of text, no control characters, at most `NAME_LENGTH` characters.

    Raises:
        ValueError: The name is not valid; the message says why.
    """
    if not 0 < len(text) <= NAME_LENGTH:
        raise ValueError(f"expected a name of 1 to {NAME_LENGTH} characters, found {len(text)}")
    if any(map(_is_refused, text)):
        raise ValueError(f"expected a name in one line without control characters, found {text!a}")
    return text


def readable(text: str) -> str:
    r"""Escape every character that `clean_name` refuses: ``\x00``, ``\udce4``.

    A file name that is not UTF-8 contains lone surrogates, which neither a database nor a stream can store.
    """
    if text.isprintable():
        return text
    return "".join(ascii(sign)[1:-1] if _is_refused(sign) else sign for sign in text)


def escaped_name(text: str) -> str:
    """Turn any text into a name that the ledger accepts; long names are truncated and end in a digest."""
    name = readable(text) or "?"
    if len(name) <= NAME_LENGTH:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:12]
    return f"{name[: NAME_LENGTH - 13]}~{digest}"


def no_formula(text: str) -> str:
    """Return text for a cell of a table; text that a spreadsheet would run as a formula begins with an apostrophe."""
    return f"'{text}" if text.lstrip(" ")[:1] in _FORMULAS and text else text


def _is_refused(sign: str) -> bool:
    return sign in _TURNING or unicodedata.category(sign) in _REFUSED
