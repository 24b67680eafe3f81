"""``python -m gonogo.server.messages``: extract the texts, update the catalogues and compile them.

Prints untranslated texts and exits with 1 if there are any.
"""

from __future__ import annotations

import io
import sys
from datetime import UTC, datetime
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

import gonogo
from gonogo.files import write_beside
from gonogo.server.language import LANGUAGES, LOCALES

_METHODS = [("**.py", "python"), ("**/templates/**.html", "jinja2.ext:babel_extract")]
_OPTIONS = {"**/templates/**.html": {"trim_blocks": "true", "lstrip_blocks": "true", "silent": "false"}}
_KEYWORDS = {"_": None, "N_": None, "ngettext": (1, 2)}
_LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)  # the current date would change the files on every run


def extract() -> Catalog:
    """Extract every text from the server's code and templates."""
    catalog = Catalog(project="gonogo", creation_date=_LONG_AGO, revision_date=_LONG_AGO, fuzzy=False)
    found = extract_from_dir(Path(__file__).parent, _METHODS, _OPTIONS, _KEYWORDS, ["NOTE:"])
    for file, _, message, comments, context in found:
        # Without line numbers: they would change with every edit.
        catalog.add(message, locations=[(file, 0)], auto_comments=comments, context=context)
    return catalog


def catalogue(language: str) -> Path:
    """Path of a language's catalogue."""
    return LOCALES / language / "LC_MESSAGES" / "messages.po"


def read_catalogue(language: str) -> Catalog:
    """Read a language's catalogue."""
    path = catalogue(language)
    if not path.exists():
        return Catalog(locale=language, creation_date=_LONG_AGO, revision_date=_LONG_AGO, fuzzy=False)
    with path.open("rb") as file:
        return read_po(file, locale=language)


def missing_translations(catalog: Catalog) -> list[str]:
    """List the texts without a translation."""
    return [str(each.id) for each in catalog if each.id and (not each.string or not all(each.string) or each.fuzzy)]


def compiled(catalog: Catalog) -> bytes:
    """Compile a catalogue to the format that gettext reads."""
    data = io.BytesIO()
    write_mo(data, catalog)
    return data.getvalue()


def update_catalogues() -> int:
    """Update every language; returns the exit code."""
    template, unfinished = extract(), 0
    for language in LANGUAGES[1:]:
        catalog = read_catalogue(language)
        catalog.project, catalog.version = "gonogo", gonogo.__version__
        catalog.header_comment = (
            "# Kept up to date by python -m gonogo.server.messages; fill in what is empty, run again."
        )
        catalog.last_translator = catalog.language_team = catalog.msgid_bugs_address = "gonogo"
        catalog.update(template, no_fuzzy_matching=True)
        catalog.obsolete.clear()
        data = io.BytesIO()
        write_po(data, catalog, width=120, include_lineno=False, sort_output=True)
        write_beside(catalogue(language), data.getvalue())
        write_beside(catalogue(language).with_suffix(".mo"), compiled(catalog))
        for text in missing_translations(catalog):
            unfinished += 1
            sys.stdout.write(f"{language}: {text!r} has no translation in {catalogue(language)}\n")
    return 1 if unfinished else 0


if __name__ == "__main__":
    sys.exit(update_catalogues())
