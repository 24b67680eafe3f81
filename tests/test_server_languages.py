"""Languages: what a catalogue must hold, what the code does per language, and pages that may run right to left."""

from __future__ import annotations

import datetime
import re
from pathlib import Path

import pytest
from babel.messages.catalog import Message
from fastapi import FastAPI

from gonogo.server import messages
from gonogo.server.access import ROLE_NAMES, Role
from gonogo.server.language import LANGUAGE_NAMES, LANGUAGES, direction, translations
from gonogo.server.responses import template_environment, time_left
from server_kit import Browser, make_app, text_of

STATIC = Path(messages.__file__).parent / "static"
PHYSICAL = re.compile(
    r"(?<![\w-])(?:(?:margin|padding|border|scroll-margin|scroll-padding)-(?:left|right)[\w-]*\s*:"
    r"|(?:left|right)\s*:"
    r"|border-(?:top|bottom)-(?:left|right)-radius\s*:"
    r"|(?:text-align|float|clear|justify-content)\s*:\s*(?:left|right)\b)"
)
_VALUE = r"((?:[^\s;{}()]|\((?:[^()]|\([^()]*\))*\))+)"
FOUR_VALUES = re.compile(rf"(?<![\w-])(?:margin|padding|inset)\s*:\s*{' '.join([_VALUE] * 4)}\s*[;}}]")
DELIBERATE: frozenset[str] = frozenset()
"""Physical properties that stay, as ``file: declaration``: what belongs to a drawing or to the progress of time."""


@pytest.fixture
def app(tmp_path: Path) -> FastAPI:
    return make_app(tmp_path / "workspace")


def forms(message: Message) -> list[tuple[str, str]]:
    """Pairs of a text and its translation: two for a text with a plural (more, if the language has more forms)."""
    if isinstance(message.string, str):
        return [(str(message.id), message.string)]
    return [(message.id[min(place, 1)], text) for place, text in enumerate(message.string)]


def placeholders(text: str) -> list[str]:
    return sorted(re.findall(r"%\(\w+\)[-+.\d]*[a-z]|%%|\{\w*\}", text))


@pytest.mark.parametrize("language", LANGUAGES[1:])
def test_every_form_of_a_translation_has_exactly_the_placeholders_of_its_text(language: str) -> None:
    for message in messages.read_catalogue(language):
        for english, translated in forms(message) if message.id else []:
            assert set(placeholders(translated)) == set(placeholders(english)), message.id
            assert translated.count("%%") == english.count("%%"), message.id
            assert "%" not in re.sub(r"%\(\w+\)[-+.\d]*[a-z]|%%", "", translated), f"a loose % in {translated!r}"


@pytest.mark.parametrize("language", LANGUAGES)
def test_numbers_times_roles_and_plurals_work_in_every_language(language: str) -> None:
    filters = template_environment(language).filters
    at = datetime.datetime(2026, 3, 4, 15, 6, 7, tzinfo=datetime.UTC)
    assert "2026" in filters["moment"](at)
    assert filters["clock"](at).endswith(":06:07")
    assert filters["percent"](0.125).endswith("\N{NO-BREAK SPACE}%")
    assert filters["number"](1234.5, 1).replace("\N{NARROW NO-BREAK SPACE}", "")[-2:] in (".5", ",5")
    assert time_left(language, 90) != ""
    assert LANGUAGE_NAMES[language] != language
    assert all(translations(language).gettext(ROLE_NAMES[role]) for role in Role)
    said = [translations(language).ngettext("%(num)s part", "%(num)s parts, the newest first", each) for each in (1, 2)]
    assert said[0] != said[1]


def test_a_french_browser_gets_french(app: FastAPI) -> None:
    browser = Browser(app, accept_language="fr-FR,fr;q=0.9,en;q=0.5")
    assert '<html lang="fr"' in browser.get("/login").text
    assert "Nom ou mot de passe incorrect" in text_of(browser.login("operator", "wrong"))
    browser.login("operator")
    assert "Pièces" in text_of(browser.get("/"))
    assert "pas accès à cette page" in text_of(browser.get("/people"))
    browser.post("/preferences", language="de", theme="dark")
    assert '<html lang="de"' in browser.get("/").text


def test_a_page_runs_as_its_language_does(app: FastAPI) -> None:
    for language in LANGUAGES:
        assert 'dir="ltr"' in Browser(app, accept_language=language).get("/login").text
    assert [direction(language) for language in ("ar", "he", "fa", "ar_EG")] == ["rtl"] * 4


def physical(text: str) -> list[str]:
    """The declarations of a stylesheet that would not turn round with the writing direction."""
    plain = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    found = [plain[each.start() :].split(";")[0].split("}")[0].strip() for each in PHYSICAL.finditer(plain)]
    return found + [each[0].rstrip(";} ") for each in FOUR_VALUES.finditer(plain) if each[2] != each[4]]


@pytest.mark.parametrize("declaration", ["margin-left: 1rem", "right:0", "text-align: left", "padding: 0 1px 0 2px"])
def test_a_physical_declaration_is_found(declaration: str) -> None:
    assert physical(f"a {{ color: red; {declaration} }} b {{ margin-inline-start: 0; text-align: start; }}") == [
        declaration
    ]


def test_stylesheets_lay_out_with_logical_properties_only() -> None:
    """``margin-inline-start`` instead of ``margin-left``, ``text-align: start`` instead of ``left``, and so on."""
    found = {f"{file.name}: {each}" for file in STATIC.glob("*.css") for each in physical(file.read_text("utf-8"))}
    assert found == DELIBERATE
