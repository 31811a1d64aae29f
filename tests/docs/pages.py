"""What the pages tell a reader to type, read from their Markdown.

A command is a line of a `sh` or indented block, a line after `$ ` in a `console` block (the lines below it are what it prints), or an
inline `sd2rt VERB ...` with an option. Comments that a reader does not see say what a test needs to know of the block that follows:

    <!-- not run: REASON -->     the block's commands cannot run here; they are parsed
    <!-- file: NAME -->          the block is what the file NAME holds

The pages of this folder's tests are the README and docs/guides.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs/guides").glob("*.md")))
NOTE = re.compile(r"<!-- (not run|file): (.+?) -->")
SHELL = ("", "sh")


@dataclass(slots=True, kw_only=True)
class Block:
    """Something to do, in the order of the page: commands to type, a Python program, or a file to write.

    `line` counts from 1. `expected` holds, for each command, the lines that it prints, `...` for anything.
    """

    kind: str
    line: int
    text: str = ""
    commands: list[str] = field(default_factory=list)
    expected: list[list[str]] = field(default_factory=list)
    not_run: str = ""


def read_page(path: Path) -> list[Block]:
    """Return what a page asks for. Raises ValueError for a note that nothing follows."""
    blocks: list[Block] = []
    notes: dict[str, str] = {}
    for token in MarkdownIt("commonmark").parse(path.read_text()):
        if token.type == "html_block":
            notes |= dict(NOTE.findall(token.content))
        elif token.type in ("fence", "code_block", "inline"):
            found = list(read_block(token, notes))
            blocks += found
            notes = {} if token.type != "inline" or found else notes
    if notes:
        raise ValueError(f"{path.name}: nothing follows the note {notes}")
    return blocks


def read_block(token: Token, notes: dict[str, str]) -> Iterator[Block]:
    """Yield what one block, or the text of a paragraph, asks for: at most one thing."""
    line = (token.map or [0])[0] + 1
    not_run = notes.get("not run", "")
    if token.type == "inline":
        codes = [child.content for child in token.children or () if child.type == "code_inline"]
        commands = [code for code in codes if re.match(r"sd2rt \S+ .*--", code)]
        if commands:
            yield Block(kind="shell", line=line, commands=commands, expected=[[] for _ in commands], not_run=not_run)
    elif "file" in notes:
        yield Block(kind=f"file {notes['file']}", line=line, text=token.content)
    elif token.info == "python":
        yield Block(kind="python", line=line, text=token.content, not_run=not_run)
    elif token.info == "console":
        yield console_block(token.content, line, not_run)
    elif token.info in SHELL:
        commands = join_lines(token.content)
        yield Block(kind="shell", line=line, commands=commands, expected=[[] for _ in commands], not_run=not_run)


def console_block(text: str, line: int, not_run: str) -> Block:
    """Take a block of commands and what they print apart."""
    block = Block(kind="shell", line=line, not_run=not_run)
    for row in text.splitlines():
        if row.startswith("$ "):
            block.commands.append(row[2:])
            block.expected.append([])
        elif row:
            block.expected[-1].append(row)
    return block


def join_lines(text: str) -> list[str]:
    """Return the lines of a shell's block that are more than a comment, those with a backslash at their end joined with the next."""
    return [line for line in text.replace("\\\n", " ").splitlines() if line.strip() and not line.lstrip().startswith("#")]


def printed(expected: str, output: str) -> bool:
    """Say whether the output has a line that begins and ends as expected, `...` standing for anything."""
    pattern = ".*".join(re.escape(part) for part in expected.strip().split("..."))
    return any(re.fullmatch(pattern, line.strip()) for line in output.splitlines())
