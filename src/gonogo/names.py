"""Names and other text from outside: which names are taken, and how the rest is made readable."""

from __future__ import annotations

import hashlib
import unicodedata

NAME_LENGTH = 200
"""Most characters of a name, as the ledger takes it."""
_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that change the direction of the text around them; no language needs them in a name."""
_REFUSED = frozenset(("Cc", "Cs", "Zl", "Zp"))  # control characters, lone surrogates, line and paragraph separators


def clean_name(text: str) -> str:
    """A name as the ledger takes it: one line of text, without control characters, not too long.

    Raises:
        ValueError: it is not one; says why.
    """
    if not 0 < len(text) <= NAME_LENGTH:
        raise ValueError(f"expected a name of 1 to {NAME_LENGTH} characters, found {len(text)}")
    if any(map(_is_refused, text)):
        raise ValueError(f"expected a name in one line without control characters, found {text!a}")
    return text


def readable(text: str) -> str:
    r"""The same text with everything that `clean_name` refuses escaped: ``\x00``, ``\udce4``.

    A file name that is not UTF-8 holds lone surrogates, which neither a database nor a stream takes.
    """
    if text.isprintable():
        return text
    return "".join(ascii(sign)[1:-1] if _is_refused(sign) else sign for sign in text)


def escaped_name(text: str) -> str:
    """A name that the ledger takes, made of any text; long ones are cut and told apart by a digest."""
    name = readable(text) or "?"
    if len(name) <= NAME_LENGTH:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:12]
    return f"{name[: NAME_LENGTH - 13]}~{digest}"


def _is_refused(sign: str) -> bool:
    return sign in _TURNING or unicodedata.category(sign) in _REFUSED
