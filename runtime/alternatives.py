"""Prompts that stand for several: alternatives in braces, and wildcards, which are files of alternatives. Plain texts; knows no picture.

    {red|blue} cube          red cube, blue cube; braces nest, and an alternative may be empty
    {a|b} {x|y}              all combinations: a x, a y, b x, b y
    __colour__ cube          a line of colour.txt in the folder of wildcards; blank lines and those that begin with # do not count
    \\{ \\| \\}                 these characters themselves

Braces without a | between them, or that do not pair, are text; so are wildcards where there is no folder of them. Usually braces give all
their combinations and a wildcard one line for each picture, drawn by its seed; `Choose` makes all of one kind. What a drawn line holds is
drawn too.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime.tokenizer import check_text
from sd2rt.runtime.wildcards import read_lines

Choose = Literal["auto", "all", "random", "off"]
MOST_NESTED = 20  # braces and wildcards within each other
BILLION = 10**9
_WORD = r"(?:[^\W_]|-)+"
_PARTS = re.compile(rf"\\([{{|}}])|([{{|}}])|__({_WORD}(?:[_/]{_WORD})*)__|([^\\{{|}}_]+|[\\_])")


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several templates: each gives texts of its own or, where it is drawn, one does."""

    options: tuple[Template, ...]
    drawn: bool


Template = tuple[str | Choice, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How alternatives are read: the folder of wildcards, if any, and what is taken of them.

    `choose`: "auto" takes all of what is in braces and draws of wildcards, "all" and "random" do the one or the other with both, "off"
    leaves all as it is. Raises InvalidArgument for another word or a folder that is none.
    """

    wildcards: Path | None = None
    choose: Choose = "auto"

    def __post_init__(self) -> None:
        if self.choose not in get_args(Choose):
            raise InvalidArgument(f"alternatives: got {str(self.choose)[:80]!r}; expected one of {', '.join(get_args(Choose))}")
        if self.wildcards is not None and not self.wildcards.is_dir():
            raise InvalidArgument(f"wildcards: got {str(self.wildcards)[:200]}, which is no folder; expected one of .txt files")


def expand_prompts(
    prompt: str, negative: str, rules: Rules, *, seed_of: Callable[[int], int], images: int, most: int
) -> tuple[tuple[str, str], ...]:
    """Return the prompt and negative prompt of every picture: `images` of each combination, negative prompts' varying faster.

    Picture i draws by `seed_of(i)`: its own seed makes it the one that this seed draws alone. One pair where there is nothing to choose:
    its `images` are the caller's. Raises InvalidArgument for more than `most` pictures, and as `read_template` does.
    """
    templates = read_template("prompt", prompt, rules), read_template("negative_prompt", negative, rules)
    first, second = map(count_texts, templates)
    if first * second == 1 and not any(map(_has_choice, templates)):
        return ((pick_text(templates[0], 0, 0), pick_text(templates[1], 0, 0)),)
    total = first * second * images
    if total > most:
        count = f"{first * second:,}" if total < BILLION else "a billion or more"
        what = f"prompt: got {count} combinations of alternatives, {images} pictures each; expected at most {most} pictures"
        raise InvalidArgument(f"{what}: take some away, or choose at random")
    places = [(number, number // images // second, number // images % second) for number in range(total)]
    return tuple(
        (pick_text(templates[0], one, seed_of(number)), pick_text(templates[1], other, seed_of(number))) for number, one, other in places
    )


def read_template(name: str, text: str, rules: Rules) -> Template:
    """Read a text with alternatives; `name` is the argument's. Raises InvalidArgument for a wildcard that cannot be read, and too many
    within each other.
    """
    check_text(name, text)
    return (text,) if rules.choose == "off" else _Reader(name, rules).read(text, drawn=rules.choose == "random")


def count_texts(template: Template) -> int:
    """Return how many texts a template gives: its combinations of what is not drawn."""
    return math.prod(sum(map(count_texts, part.options)) for part in template if isinstance(part, Choice) and not part.drawn)


def pick_text(template: Template, number: int, seed: int) -> str:
    """Return the text of a number below `count_texts`, the last choice varying fastest; `seed`, 0 or more, draws the rest."""
    return "".join(_pick(template, number, random.Random(seed)))


def _pick(template: Template, number: int, rng: random.Random) -> Iterator[str]:
    places = math.prod(count_texts((part,)) for part in template)
    for part in template:
        places //= count_texts((part,))
        digit, number = divmod(number, places)
        if isinstance(part, str):
            yield part
        elif part.drawn:
            yield from _pick(rng.choice(part.options), 0, rng)
        else:
            for option in part.options:
                if digit < count_texts(option):
                    yield from _pick(option, digit, rng)
                    break
                digit -= count_texts(option)


def _has_choice(template: Template) -> bool:
    return any(isinstance(part, Choice) for part in template)


@dataclass(slots=True)
class _Braces:
    """Braces, or a whole text, that are being read: the alternatives so far, the last one unfinished."""

    options: list[list[str | Choice]] = field(default_factory=lambda: [[]])

    def add(self, *parts: str | Choice) -> None:
        self.options[-1].extend(parts)

    def as_text(self, end: str) -> list[str | Choice]:
        """Return what was read as it stood, braces that mean nothing."""
        parts: list[str | Choice] = ["{"]
        for index, option in enumerate(self.options):
            parts += ["|", *option] if index else option
        return [*parts, end]


@dataclass(slots=True)
class _Reader:
    """Reads texts of the argument `name`, and each wildcard once. `inside` names the wildcards whose line is being read."""

    name: str
    rules: Rules
    known: dict[str, Choice] = field(default_factory=dict)
    inside: list[str] = field(default_factory=list)

    def read(self, text: str, *, drawn: bool) -> Template:
        """Read a text in which braces are drawn, or not."""
        braces = [_Braces()]
        for match in _PARTS.finditer(text):
            escaped, mark, wildcard, words = match.groups()
            if mark == "{":
                braces.append(_Braces())
                self._check_depth(len(braces))
            elif mark == "|" and len(braces) > 1:
                braces[-1].options.append([])
            elif mark == "}" and len(braces) > 1:
                closed = braces.pop()
                choice = [Choice(tuple(map(tuple, closed.options)), drawn)]
                braces[-1].add(*(choice if len(closed.options) > 1 else closed.as_text("}")))
            elif wildcard and self.rules.wildcards is not None:
                braces[-1].add(self.known.get(wildcard) or self._read_wildcard(wildcard, self.rules.wildcards))
            else:
                braces[-1].add(escaped or mark or words or match.group())
        while len(braces) > 1:
            unclosed = braces.pop()
            braces[-1].add(*unclosed.as_text(""))
        return tuple(braces[0].options[0])

    def _read_wildcard(self, wildcard: str, folder: Path) -> Choice:
        """Read a wildcard's lines, which may hold alternatives themselves."""
        if wildcard in self.inside:
            within = f"the wildcard __{wildcard}__ within __{self.inside[-1]}__, without an end"
            raise InvalidArgument(f"{self.name}: got {within}; take it out of {self.inside[-1]}.txt")
        self.inside.append(wildcard)
        self._check_depth(1)
        drawn = self.rules.choose != "all"
        lines = read_lines(f"{self.name}: got the wildcard __{wildcard}__", folder, wildcard)
        self.known[wildcard] = Choice(tuple(self.read(line, drawn=drawn) for line in lines), drawn)
        self.inside.pop()
        return self.known[wildcard]

    def _check_depth(self, braces: int) -> None:
        if len(self.inside) + braces > MOST_NESTED:
            raise InvalidArgument(f"{self.name}: got more than {MOST_NESTED - 1} braces and wildcards within each other; write fewer")
