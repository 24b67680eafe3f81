"""Generated pages and pictures are up to date, the architecture page names every room, docstring examples run."""

from __future__ import annotations

import doctest
import re
import runpy
from pathlib import Path

import pytest

import gonogo
from gonogo.dataset import Dataset, import_folder
from gonogo.evaluate import evaluate
from gonogo.schema import Verdict
from gonogo.testing import write_fake_bundle
from gonogo.workflow import train_inspector

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PACKAGE = ROOT / "src" / "gonogo"


def rooms() -> set[str]:
    modules = {file.stem for file in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    return modules | {folder.parent.name for folder in PACKAGE.glob("*/__init__.py")}


def test_the_list_of_the_public_api_is_up_to_date() -> None:
    text = runpy.run_path(str(DOCS / "make_api.py"))["api_text"]()
    assert (DOCS / "api.md").read_text("utf-8") == text, "run make docs-api"


@pytest.mark.parametrize("name", ["rooms", "frame"])
def test_the_pictures_of_the_architecture_are_up_to_date(name: str) -> None:
    drawn = runpy.run_path(str(DOCS / "draw.py"))[name]()
    assert (DOCS / "images" / f"{name}.svg").read_text("utf-8") == drawn, "run make docs-pictures"


def test_the_architecture_page_describes_every_room_once_and_nothing_else() -> None:
    described = re.findall(r"^\| `(\w+)` \|", (DOCS / "architecture.md").read_text("utf-8"), flags=re.MULTILINE)
    assert sorted(described) == sorted(rooms())


def test_every_link_between_the_pages_leads_somewhere() -> None:
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *DOCS.glob("*.md")):
        for target in re.findall(r"\]\(([^)#]+)", page.read_text("utf-8")):
            if not target.startswith("https://"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_page_is_in_the_site_once_and_linked_from_its_first_page() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text("utf-8").partition("\nnav:\n")[2]
    listed = re.findall(r": (\S+\.md)$", navigation, flags=re.MULTILINE)
    assert sorted(listed) == sorted(page.name for page in DOCS.glob("*.md"))
    first = (DOCS / "index.md").read_text("utf-8")
    assert [page for page in listed if page != "index.md" and f"]({page})" not in first] == []


@pytest.fixture
def folder(tmp_path: Path, discs: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the examples name: photographs, a data set and a bundle."""
    monkeypatch.chdir(tmp_path)
    for index, sample in enumerate(discs.samples[:8]):
        assert sample.label is not None
        file = tmp_path / "photos" / sample.label.value / f"{index}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes((discs.root / sample.file_name).read_bytes())
    (tmp_path / "discs").symlink_to(discs.root)
    write_fake_bundle(tmp_path / "fake.inspector")


@pytest.mark.slow
@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("public", [gonogo.Inspector, Verdict, import_folder, train_inspector, evaluate])
def test_the_examples_in_the_docstrings_of_the_public_face_run(public: type) -> None:
    examples = [each for each in doctest.DocTestFinder(recurse=False).find(public, public.__name__) if each.examples]
    assert examples, f"{public.__name__} has no example"
    for example in examples:
        assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example).failed == 0
