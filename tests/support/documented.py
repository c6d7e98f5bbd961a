"""What the pages of the documentation tell one to type: blocks, and the commands in them."""

import re
import shlex
from collections.abc import Iterator
from typing import NamedTuple

from markdown_it import MarkdownIt
from markdown_it.token import Token

from tests.support.commands import ROOT
from tuning.__main__ import COMMANDS

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
# Indented blocks hold shell; other languages are fenced.
SHELL = "sh"
MODULES = {module: name for name, (module, _) in COMMANDS.items()}
# Programs that running text shows with arguments, after variables perhaps.
NAMED = re.compile(r"([A-Z_]+=\S+ )*(\.venv/bin/)?(decrop|make|pip|python|ray|tensorboard) ")
ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")


class Block(NamedTuple):
    """A block of code: its page, its first line there, its language and its text."""

    page: str
    line: int
    language: str
    text: str


class Command(NamedTuple):
    """A command, and where it stands.

    Its words do not depend on how it is started: `python -m tuning.launch`, with a virtual
    environment's path or without, is `decrop launch`.
    """

    page: str
    line: int
    words: tuple[str, ...]

    @property
    def text(self) -> str:
        return " ".join(self.words)

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


def blocks() -> list[Block]:
    """All blocks of all pages."""
    return [
        Block(name, token.map[0] + 1, token.info.strip() or SHELL, token.content)
        for name, token in _tokens("fence", "code_block")
        if token.map
    ]


def commands() -> list[Command]:
    """The commands in blocks of shell, and those of this project in running text."""
    found = [
        Command(block.page, block.line + start, words)
        for block in blocks()
        if block.language == SHELL
        for start, words in _commands(block.text)
    ]
    for page, token in _tokens("inline"):
        for code in token.children or ():
            if code.type == "code_inline" and NAMED.match(code.content) and token.map:
                lines = token.content.split(f"`{code.content}`")[0].count("\n")
                line = token.map[0] + 1 + lines
                found += [Command(page, line, words) for _, words in _commands(code.content)]
    return found


def _tokens(*kinds: str) -> Iterator[tuple[str, Token]]:
    markdown = MarkdownIt("commonmark")
    for page in PAGES:
        for token in markdown.parse(page.read_text()):
            if token.type in kinds:
                yield str(page.relative_to(ROOT)), token


def _commands(text: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    """The simple commands of a shell's text, each with its line, counted from 0."""
    start, line = 0, ""
    for number, part in enumerate(text.splitlines()):
        if not line:
            start = number
        if part.endswith("\\"):
            line += part[:-1]
            continue
        yield from ((start, words) for words in _split(line + part))
        line = ""


def _split(line: str) -> Iterator[tuple[str, ...]]:
    """The words of each simple command in a line, without assignments and redirections."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    # A final operator, so that the last command ends as the others do.
    for word in [*lexer, ";"]:
        if not set(word) <= set("();<>|&"):
            if words or not ASSIGNMENT.match(word):
                words.append(word)
        elif set(word) & set("<>"):
            words.append(word)
        elif words:
            yield _named(_without_redirections(words))
            words = []


def _without_redirections(words: list[str]) -> list[str]:
    kept = []
    rest = iter(words)
    for word in rest:
        if set(word) <= set("<>&"):
            next(rest, None)
        else:
            kept.append(word)
    return kept


def _named(words: list[str]) -> tuple[str, ...]:
    program = words[0].removeprefix(".venv/bin/").replace("python3", "python")
    if program == "python" and words[1:2] == ["-m"] and (name := MODULES.get("".join(words[2:3]))):
        return ("decrop", name, *words[3:])
    return (program, *words[1:])
