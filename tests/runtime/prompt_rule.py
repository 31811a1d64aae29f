"""The web UI's rule for weights and chunks once more, stated as plainly as can be and with nothing of the runtime's: one character at a
time, each with the brackets that it stands in; one token at a time, into the chunk that is being filled; one state at a time.
"""

import numpy as np
import numpy.typing as npt

Character = tuple[str, float]
"""A character and its weight; "" stands for a BREAK."""
NUMBER = set("+-.0123456789")


class Reader:
    """Reads a prompt from left to right. A character remembers which brackets are open when it is read."""

    def __init__(self, prompt: str) -> None:
        self.prompt = prompt
        self.brackets: list[float] = []  # what each bracket multiplies by, as far as is known
        self.open: dict[str, list[int]] = {"(": [], "[": []}
        self.characters: list[tuple[str, set[int]]] = []
        self.run = ""

    def read(self) -> list[Character]:
        place = 0
        while place < len(self.prompt):
            place += self.step(place)
        self.end_run()
        weights = [np.prod([self.brackets[one] for one in inside]) for _, inside in self.characters]
        return [(character, float(weight)) for (character, _), weight in zip(self.characters, weights, strict=True)]

    def step(self, place: int) -> int:
        """Read what stands at a place and return how long it is."""
        character, following = self.prompt[place], self.prompt[place + 1 : place + 2]
        if character not in "()[]\\:":
            self.run += character
            return 1
        self.end_run()
        if character == "\\" and following and following in "\\()[]":
            self.put(following)
            return 2
        if character in "([":
            self.open[character].append(len(self.brackets))
            self.brackets.append(1.1 if character == "(" else 1 / 1.1)
        elif character in ")]" and self.open[pair := {")": "(", "]": "["}[character]]:
            self.open[pair].pop()
        elif character == ":" and (weight := self.weight_at(place)) is not None:
            self.brackets[self.open["("].pop()] = weight
            return self.prompt.index(")", place) + 1 - place
        else:
            self.put(character)
        return 1

    def weight_at(self, place: int) -> float | None:
        """Return the number between a colon and the next round bracket, if it is one and a bracket is open for it."""
        number, closed, _ = self.prompt[place + 1 :].partition(")")
        if not closed or not self.open["("] or not set(number.strip()) <= NUMBER:
            return None
        try:
            return float(number)
        except ValueError:
            return None

    def end_run(self) -> None:
        """Look for BREAK as a word by itself in the characters read since the last that means something."""
        run, self.run = self.run, ""
        while run:
            at = next((i for i in range(len(run)) if run.startswith("BREAK", i) and word_ends(run, i) and word_ends(run, i + 5)), None)
            if at is None:
                break
            for character in run[:at].rstrip():
                self.put(character)
            self.put("")
            run = run[at + 5 :].lstrip()
            if run.startswith("BREAK") and word_ends(run, 5):
                continue
        for character in run:
            self.put(character)

    def put(self, character: str) -> None:
        self.characters.append((character, {*self.open["("], *self.open["["]}))


def word_ends(run: str, place: int) -> bool:
    """Return whether no word goes on from before a place to after it."""
    before, after = run[place - 1 : place] if place else "", run[place : place + 1]
    return not (before and after and is_word(before) and is_word(after))


def is_word(character: str) -> bool:
    return character.isalnum() or character == "_"


def read_characters(prompt: str) -> list[Character]:
    """Return a prompt's characters without its brackets, each with its weight."""
    return Reader(prompt).read()


def fill_chunks(tokens: list[Character], size: int) -> list[list[Character]]:
    """Put tokens, here characters, into chunks one by one."""
    chunks: list[list[Character]] = []
    filling: list[Character] = []
    comma = -1  # the place of the last one in the chunk that is being filled
    for token in tokens:
        if token[0] == "":
            chunks.append(filling)
            filling, comma = [], -1
            continue
        if len(filling) == size:
            moved: list[Character] = []
            if token[0] != "," and comma >= 0 and size - comma <= 20:
                filling, moved = filling[: comma + 1], filling[comma + 1 :]
            chunks.append(filling)
            filling, comma = moved, -1
        if token[0] == ",":
            comma = len(filling)
        filling.append(token)
    return [*chunks, filling] if filling or not chunks else chunks


def weigh_chunk(states: npt.NDArray[np.float64], weights: list[float]) -> npt.NDArray[np.float64]:
    """Multiply the state [tokens, D] of every token of a chunk, the first being its begin; then restore the mean."""
    result = states.copy()
    for place, weight in enumerate(weights, 1):
        result[place] = states[place] * weight
    return result * (states.mean() / result.mean())
