"""Alternatives and wildcards: what stands in braces and files, in which order, drawn by which seed, and what is refused."""

import operator
import random
from functools import partial
from itertools import product
from pathlib import Path

import pytest

from sd2rt.engine.errors import InvalidArgument
from sd2rt.runtime.alternatives import Choose, Rules, count_texts, expand_prompts, pick_text, read_template


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "animals").mkdir()
    files = {
        "colour.txt": "\ufeffred\n\n# not this\n  blue \ngreen",
        "animals/big_cat.txt": "lion\ntiger",
        "scene.txt": "a __colour__ {cube|cone}\n{x|y}",
        "loop.txt": "a __other__",
        "other.txt": "b\n__loop__",
        "empty.txt": "\n# nothing\n",
        **{f"deep{level}.txt": f"__deep{level + 1}__" for level in range(30)},
    }
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    return tmp_path


def _texts(text: str, rules: Rules | None = None, seed: int = 0) -> list[str]:
    template = read_template("prompt", text, rules or Rules())
    return [pick_text(template, number, seed) for number in range(count_texts(template))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", [""]),
        ("a red cube", ["a red cube"]),
        ("{red|blue} cube", ["red cube", "blue cube"]),
        ("{a|b} {x|y|z}", ["a x", "a y", "a z", "b x", "b y", "b z"]),
        ("{|very} large", [" large", "very large"]),
        ("{a|{b|c} d|e}", ["a", "b d", "c d", "e"]),
        ("{a|a}", ["a", "a"]),
        ("{a} {{b}|c}", ["{a} {b}", "{a} c"]),
        ("{a|b", ["{a|b"]),
        ("{a|{b|c", ["{a|{b|c"]),
        ("{a {b|c}", ["{a b", "{a c"]),
        ("a|b} }{", ["a|b} }{"]),
        (r"\{a|b\} {a\|b|c} \(x\) \\{d|e}", [rf"{{a|b}} {first} \(x\) \{rest}" for first in ("a|b", "c") for rest in ("{d|e}",)]),
        ("{(a:1.2)|[b]} __colour__ _ __", ["(a:1.2) __colour__ _ __", "[b] __colour__ _ __"]),
    ],
)
def test_braces_give_all_combinations_in_order(text: str, expected: list[str]) -> None:
    assert _texts(text) == expected


def test_random_templates_give_what_a_product_gives() -> None:
    rng = random.Random(0)
    for _ in range(1_000):
        choices = [[f"{place}{letter}" for letter in "abcd"[: rng.randint(2, 4)]] for place in range(rng.randrange(5))]
        text = "-".join("{" + "|".join(options) + "}" for options in choices)
        assert _texts(text) == ["-".join(picked) for picked in product(*choices)]


def test_a_wildcard_is_a_line_that_the_seed_draws(folder: Path) -> None:
    rules = Rules(wildcards=folder)
    drawn = [_texts("a __colour__ __animals/big_cat__", rules, seed) for seed in range(60)]
    assert {text for (text,) in drawn} == {f"a {colour} {cat}" for colour in ("red", "blue", "green") for cat in ("lion", "tiger")}
    assert drawn == [_texts("a __colour__ __animals/big_cat__", rules, seed) for seed in range(60)]
    assert _texts("{a __colour__|b}", rules, 3) == [_texts("a __colour__", rules, 3)[0], "b"]
    assert {_texts("__scene__", rules, seed)[0] for seed in range(200)} == {
        "x",
        "y",
        *(f"a {colour} {solid}" for colour in ("red", "blue", "green") for solid in ("cube", "cone")),
    }


@pytest.mark.parametrize(
    ("choose", "expected"),
    [
        ("all", ["red x", "red y", "blue x", "blue y", "green x", "green y"]),
        ("off", ["__colour__ {x|y}"]),
    ],
)
def test_all_or_none_may_be_taken(choose: Choose, expected: list[str], folder: Path) -> None:
    assert _texts("__colour__ {x|y}", Rules(wildcards=folder, choose=choose)) == expected


def test_braces_may_be_drawn_too(folder: Path) -> None:
    rules = Rules(wildcards=folder, choose="random")
    assert {_texts("__colour__ {x|{y|z}}", rules, seed)[0] for seed in range(200)} == {
        f"{colour} {letter}" for colour in ("red", "blue", "green") for letter in "xyz"
    }
    assert {_texts("{a|b}", Rules(choose="random"), seed)[0] for seed in range(20)} == {"a", "b"}


def test_pictures_are_of_combinations_and_draw_by_their_own_seeds(folder: Path) -> None:
    rules = Rules(wildcards=folder)
    pairs = expand_prompts("{a|b} __colour__", "{c|d}", rules, seed_of=partial(operator.add, 5), images=2, most=8)
    assert [(prompt[0], negative) for prompt, negative in pairs] == [(a, c) for a in "ab" for c in "cd" for _ in range(2)]
    for index, (prompt, _) in enumerate(pairs):
        ((alone, _),) = expand_prompts(f"{prompt[0]} __colour__", "", rules, seed_of=partial(operator.add, 5 + index), images=1, most=1)
        assert alone == prompt
    assert expand_prompts("a", "b", rules, seed_of=partial(operator.add, 5), images=9, most=1) == (("a", "b"),)
    assert len(expand_prompts("a __colour__", "b", rules, seed_of=partial(operator.add, 5), images=9, most=9)) == 9


@pytest.mark.parametrize(
    ("text", "most", "message"),
    [
        ("{a|b}{a|b}", 7, "prompt: got 4 combinations of alternatives, 2 pictures each; expected at most 7 pictures: take some away"),
        ("{a|b}" * 1600, 256, "prompt: got a billion or more combinations of alternatives, 2 pictures each; expected at most 256"),
        (
            "__nothing__",
            256,
            r"prompt: got the wildcard __nothing__, but there is no .*nothing.txt; expected one of animals/big_cat, col.*, \.\.",
        ),
        ("__empty__", 256, "prompt: got the wildcard __empty__; .*empty.txt has no lines; write one alternative on each"),
        ("__latin__", 256, "prompt: got the wildcard __latin__; .*latin.txt cannot be read: it is not UTF-8"),
        ("__loop__", 256, "prompt: got the wildcard __loop__ within __other__, without an end; take it out of other.txt"),
        ("{" * 20 + "a|b", 256, "prompt: got more than 19 braces and wildcards within each other; write fewer"),
        ("__deep0__", 256, "prompt: got more than 19 braces and wildcards within each other; write fewer"),
        ("x" * 8193, 256, "prompt: got 8,193 characters"),
        (f"__{'x' * 300}__", 256, "cannot be read: File name too long"),
    ],
)
def test_what_cannot_be_expanded_is_refused(text: str, most: int, message: str, folder: Path) -> None:
    with pytest.raises(InvalidArgument, match=message):
        expand_prompts(text, "", Rules(wildcards=folder), seed_of=partial(operator.add, 5), images=2, most=most)


def test_as_many_within_each_other_as_may_be_are_read() -> None:
    assert len(_texts("{a|" * 19 + "b" + "}" * 19)) == 20


@pytest.mark.parametrize("name", ["__../colour__", "__/colour__", "__colour.txt__", "__a//b__", "____", "__ colour __"])
def test_other_names_are_text_and_reach_no_file(name: str, folder: Path) -> None:
    assert _texts(name, Rules(wildcards=folder / "animals")) == [name]


def test_rules_are_checked(folder: Path) -> None:
    with pytest.raises(InvalidArgument, match="alternatives: got 'some'; expected one of auto, all, random, off"):
        Rules(choose="some")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match=r"wildcards: got .*colour.txt, which is no folder; expected one of .txt files"):
        Rules(wildcards=folder / "colour.txt")
    (folder / "bare").mkdir()
    rules = Rules(wildcards=folder / "bare")
    with pytest.raises(InvalidArgument, match=r"expected one of none: the folder has no \.txt files"):
        _texts("__a__", rules)
