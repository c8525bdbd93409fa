"""No link of the documentation is dead; nothing is fetched from the network."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, Page, all_pages, slug_of

PAGES = all_pages()
BY_PATH = {page.path: page for page in PAGES}

# Folders whose files are mentioned by path, in prose and in the sources.
_FOLDERS = "envelope|integrations|tests|benchmarks|demo|docs"
_CODE_PATH = re.compile(rf"((?:{_FOLDERS})/[\w./-]+\.[a-z]+\d?)(?:::[\w:\[\]-]+)?")
_SOURCE_MENTION = re.compile(r"\bdocs/[\w/-]+\.(?:md|json)\b")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_somewhere(page: Page) -> None:
    dead = [
        f"{page.name}:{line}: {target} ({why})"
        for line, target in page.links()
        if (why := why_dead(page, target))
    ]
    assert not dead, "\n".join(dead)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_is_there(page: Page) -> None:
    missing = [
        f"{page.name}:{line}: {code}"
        for line, code in page.inline_code()
        if (found := _CODE_PATH.fullmatch(code)) and not (ROOT / found[1]).exists()
    ]
    assert not missing, "\n".join(missing)


def test_every_page_that_the_sources_cite_is_there() -> None:
    sources = [
        path
        for folder in _FOLDERS.split("|")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if path != Path(__file__)
    ]
    assert len(sources) > 20
    missing = [
        f"{path.relative_to(ROOT)} cites {mention}"
        for path in sources
        for mention in sorted(set(_SOURCE_MENTION.findall(path.read_text(encoding="utf-8"))))
        if not (ROOT / mention).exists()
    ]
    assert not missing, "\n".join(missing)


def test_the_site_shows_every_page_of_docs() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    shown = set(re.findall(r":\s*([\w/-]+\.md)\s*$", navigation, re.MULTILINE))
    there = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert shown == there


def why_dead(page: Page, target: str) -> str | None:
    """Why a link leads nowhere, or None."""
    if re.match(r"https://[\w.-]+\.[a-z]+(/\S*)?\Z|mailto:\S+@\S+\Z", target):
        return None  # whether another site still answers is not ours to test
    if re.match(r"[a-z]+:", target):
        return "not https"
    path_text, _, anchor = target.partition("#")
    path = (page.path.parent / path_text).resolve() if path_text else page.path
    if not path.exists():
        return "no such file"
    if not path.is_relative_to(ROOT):
        return "outside the repository"
    if page.path.is_relative_to(ROOT / "docs") and not path.is_relative_to(ROOT / "docs"):
        return "outside docs/, where the site has no page: name the file in `code` instead"
    if anchor and anchor not in (BY_PATH[path].anchors if path in BY_PATH else ()):
        return "no such heading"
    return None


def test_a_dead_link_is_noticed() -> None:
    page = BY_PATH[ROOT / "README.md"]
    assert why_dead(page, "LICENSE") is None
    assert why_dead(page, "docs/index.md") is None
    assert why_dead(page, "https://example.org/x") is None
    for target in (
        "NOT-THERE.md",
        "docs/index.md#no-such-heading",
        "#no-such-heading",
        "LICENSE#anchor",
        "../",
        "http://example.org",
        "file:///etc/passwd",
    ):
        assert why_dead(page, target), target


def test_anchors_are_spelt_as_the_sites_spell_them() -> None:
    assert slug_of("What `envelope` is not") == "what-envelope-is-not"
    assert slug_of("Keys, and who holds them") == "keys-and-who-holds-them"
    assert slug_of("A – B") == "a--b"
    assert slug_of("See [the format](format.md)!") == "see-the-format"
