"""The project's Markdown, as far as its tests need it: code blocks, links, anchors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

_FENCE = re.compile(r"^(?P<indent>\s*)(?P<marks>`{3,}|~{3,})\s*(?P<language>[\w+-]*)[^`]*$")
_COMMENT = re.compile(r"<!--(.*?)-->", re.DOTALL)
_HEADING = re.compile(r"^(#{1,6})\s+(.*?)\s*#*\s*$")
_EXPLICIT_ID = re.compile(r"\s*\{[^}]*#([\w.-]+)[^}]*\}\s*$")
_HTML_ID = re.compile(r"<[^>]+\b(?:id|name)=\"([^\"]+)\"")
_INLINE_CODE = re.compile(r"(`+)(.+?)\1")
_LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(\s*<?([^)\s>]+)>?(?:\s+[\"'(][^)]*)?\)")
_REFERENCE = re.compile(r"^\s{0,3}\[[^\]]+\]:\s+<?(\S+?)>?(?:\s.*)?$")
_HTML_LINK = re.compile(r"<(?:a|img)\b[^>]*\b(?:href|src)=\"([^\"]+)\"")


@dataclass(frozen=True)
class Block:
    """A fenced code block, with the HTML comment that stands right before it."""

    page: str
    line: int  # of its first line of code, from 1
    language: str
    code: str
    comment: str

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def not_run(self) -> str | None:
        """Why it is not run, if a comment ``<!-- not run: REASON -->`` says so."""
        found = re.match(r"not run:\s*(.*)", self.comment, re.DOTALL)
        return " ".join(found[1].split()) if found else None

    @property
    def exit_status(self) -> int:
        """What its last command ends with: ``<!-- exit: N -->``, else 0."""
        found = re.fullmatch(r"exit:\s*(\d+)", self.comment)
        return int(found[1]) if found else 0


class Page:
    """One Markdown file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.relative_to(ROOT).as_posix()
        self.lines = path.read_text(encoding="utf-8").splitlines()

    @cached_property
    def _parts(self) -> tuple[list[Block], list[tuple[int, str]]]:
        """Code blocks, and the numbered lines of prose around them."""
        blocks: list[Block] = []
        prose: list[tuple[int, str]] = []
        fence: re.Match[str] | None = None
        start, comment = 0, ""
        code: list[str] = []
        for number, line in enumerate(self.lines, 1):
            if fence is None:
                fence = _FENCE.match(line)
                if fence is None:
                    prose.append((number, line))
                    continue
                start, code, comment = number + 1, [], _comment_before(prose)
            elif line.strip() == fence["marks"]:
                language = fence["language"].lower()
                blocks.append(Block(self.name, start, language, "\n".join(code), comment))
                fence = None
            else:
                code.append(line.removeprefix(fence["indent"]))
        if fence is not None:
            raise ValueError(f"{self.name}:{start - 1}: a code block is never closed")
        return blocks, prose

    @property
    def blocks(self) -> list[Block]:
        return self._parts[0]

    @property
    def prose(self) -> list[tuple[int, str]]:
        return self._parts[1]

    @cached_property
    def anchors(self) -> frozenset[str]:
        """What ``#…`` may point to: headings as GitHub and the site's slugs write them, and ids."""
        found: list[str] = []
        for _, line in self.prose:
            found += _HTML_ID.findall(line)
            heading = _HEADING.match(line)
            if heading is None:
                continue
            explicit = _EXPLICIT_ID.search(heading[2])
            if explicit:
                found.append(explicit[1])
                continue
            slug = slug_of(heading[2])
            repeated = sum(
                1 for other in found if re.fullmatch(rf"{re.escape(slug)}(-\d+)?", other)
            )
            found.append(f"{slug}-{repeated}" if repeated else slug)
        return frozenset(found)

    def links(self) -> Iterator[tuple[int, str]]:
        """Every link's target, with the line it stands on."""
        for number, line in self.prose:
            text = _INLINE_CODE.sub("``", line)
            for pattern in (_LINK, _HTML_LINK, _REFERENCE):
                for target in pattern.findall(text):
                    yield number, target

    def inline_code(self) -> Iterator[tuple[int, str]]:
        for number, line in self.prose:
            for _, code in _INLINE_CODE.findall(line):
                yield number, code


def slug_of(heading: str) -> str:
    """A heading's anchor: lower case, no punctuation, a hyphen for each space."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    text = re.sub(r"[`*]", "", text).lower().strip()
    return re.sub(r"[^\w\s-]", "", text).replace(" ", "-")


def all_pages() -> list[Page]:
    """README and the other pages at the top, then docs/, each folder in order."""
    top = sorted(ROOT.glob("*.md"), key=lambda path: (path.name != "README.md", path.name))
    rest = sorted(ROOT.glob("docs/**/*.md")) + sorted(ROOT.glob("integrations/*.md"))
    return [Page(path) for path in [*top, *rest]]


def _comment_before(prose: list[tuple[int, str]]) -> str:
    """The HTML comment that ends right above, blank lines aside, or ``""``."""
    tail: list[str] = []
    for _, line in reversed(prose[-12:]):
        if not line.strip() and not tail:
            continue
        tail.insert(0, line)
        if "<!--" in line:
            break
        if "-->" not in "\n".join(tail):
            return ""
    text = "\n".join(tail).strip()
    found = _COMMENT.fullmatch(text)
    return found[1].strip() if found else ""
