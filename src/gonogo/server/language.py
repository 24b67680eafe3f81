"""English and German through gettext. The message in the code is the English text; ``locale/`` holds the others."""

from __future__ import annotations

import functools
import gettext
from pathlib import Path

from babel import Locale, negotiate_locale

from gonogo.errors import InputError

LANGUAGES = ("en", "de")
LANGUAGE_NAMES = {code: Locale.parse(code).display_name or code for code in LANGUAGES}
LOCALES = Path(__file__).parent / "locale"


def N_(message: str) -> str:  # noqa: N802 (gettext's own name for it)
    """Mark a message for translation where it stands; it is translated where it is shown."""
    return message


class RefusedError(InputError):
    """Something a person asked for cannot be done; the message is shown to them in their language.

    Args:
        message: English, marked with `N_`, with ``%(name)s`` placeholders.
        values: For the placeholders.
    """

    def __init__(self, message: str, **values: str | int) -> None:
        self.message, self.values = message, values
        super().__init__(message % values)

    def text(self, language: str) -> str:
        """The message in a language."""
        return translations(language).gettext(self.message) % self.values


@functools.cache
def translations(language: str) -> gettext.NullTranslations:
    """The catalogue of a language; English needs none."""
    return gettext.translation("messages", LOCALES, [language], fallback=language == "en")


def choose(setting: str | None, accept_language: str) -> str:
    """The language to speak: the person's setting, else the first of the browser's that there is, else English."""
    if setting in LANGUAGES:
        return setting
    wanted = [piece.split(";")[0].strip() for piece in accept_language.split(",")]
    return negotiate_locale(wanted, LANGUAGES, sep="-") or "en"
