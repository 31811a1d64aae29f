"""Rows out of text, CSV and JSON lines, and every way in which a file is refused."""

import io
import json
import random
from pathlib import Path

import pytest

from sd2rt.cli import row_files
from sd2rt.cli.row_files import Row, read_options, read_rows
from sd2rt.engine.errors import InvalidArgument


def read(text: str | bytes, name: str, kind: str | None = None) -> list[tuple[int, dict[str, object]]]:
    Path(name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return [(row.line, dict(row.said)) for row in read_rows(name, kind)]


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_text_has_a_prompt_a_line() -> None:
    text = "\ufeffa red cube\r\n\n  # a note\n  a (blue:1.2) cone, not --steps 3  \n# \n#1\né"
    assert read(text, "a.txt") == [
        (1, {"prompt": "a red cube"}),
        (4, {"prompt": "a (blue:1.2) cone, not --steps 3"}),
        (7, {"prompt": "é"}),
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--prompt a red cube --seed 7", {"prompt": "a red cube", "seed": "7"}),
        (
            "--prompt \"a 'red' cube\" --negative_prompt 'blurry -- dark'",
            {"prompt": "a 'red' cube", "negative_prompt": "blurry -- dark"},
        ),
        ("--cfg_scale=2.5 --invert --prompt it\\'s", {"cfg_scale": "2.5", "invert": True, "prompt": "it's"}),
        ("--seed -1 --prompt x", {"seed": "-1", "prompt": "x"}),
        ("--prompt= --negative=", {"prompt": "", "negative": ""}),
    ],
)
def test_a_line_of_options_is_read_as_the_web_ui_writes_it(line: str, said: dict[str, object]) -> None:
    assert read_options(line, 1) == said
    assert read(f"# note\n{line}\n", "a.txt") == [(2, said)]


def test_csv_has_a_header_and_lines_may_go_on_in_quotes() -> None:
    text = 'prompt, seed ,negative\n"a cube,\nred",7,\n\n,,\na cone,8,"he said ""no"""\n'
    assert read(text, "a.csv") == [
        (2, {"prompt": "a cube,\nred", "seed": "7", "negative": ""}),
        (6, {"prompt": "a cone", "seed": "8", "negative": 'he said "no"'}),
    ]


@pytest.mark.parametrize("name", ["a.jsonl", "a.NDJSON"])
def test_json_lines_are_objects(name: str) -> None:
    assert read('{"prompt": "a", "seed": 7}\n\n{"invert": true, "steps": null}', name) == [
        (1, {"prompt": "a", "seed": 7}),
        (3, {"invert": True, "steps": None}),
    ]


@pytest.mark.parametrize(("text", "said"), [("a red cube\n", {"prompt": "a red cube"}), ('\n {"seed": 1}\n', {"seed": 1})])
def test_stdin_is_what_it_looks_like(text: str, said: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert [dict(row.said) for row in read_rows("-", None)] == [said]


def test_a_kind_that_is_said_counts() -> None:
    assert read("prompt\na cube\n", "rows.txt", "csv") == [(2, {"prompt": "a cube"})]
    assert read("prompt\n", "rows", "txt") == [(1, {"prompt": "prompt"})]


@pytest.mark.parametrize(
    ("text", "name", "words"),
    [
        ("", "a.txt", "FILE: a.txt has no rows; expected at least one"),
        ("# only notes\n", "a.txt", "has no rows"),
        ("prompt,seed\n", "a.csv", "has no rows"),
        ("a", "a.doc", "FILE: got a.doc; expected a name that ends in one of .txt, .csv, .jsonl, .ndjson, or --rows txt, csv or jsonl"),
        (b"a\n\xff", "a.txt", "FILE: a.txt, line 2: no UTF-8"),
        ("a\n--prompt 'a", "a.txt", 'line 2: No closing quotation in "--prompt \'a"; expected --name value, quotes closed'),
        ("--seed 1 --seed 2", "a.txt", "line 1: --seed: got it a second time; say it once"),
        ("prompt,seed\na,1,2", "a.csv", "line 2: got 3 cells; expected 2, one for each of prompt, seed"),
        ("prompt,seed\na", "a.csv", "line 2: got 1 cells; expected 2"),
        ("prompt,prompt\na,b", "a.csv", "line 1: got 'prompt, prompt'; expected a name for every column, each once"),
        ("prompt,\na,b", "a.csv", "line 1: got 'prompt, '"),
        ('prompt\n"a\n', "a.csv", "line 2: unexpected end of data; expected CSV"),
        ('{"prompt": "a"}\n{"prompt"}', "a.jsonl", "line 2: no JSON (Expecting ':' delimiter"),
        ("[1]", "a.jsonl", "line 1: got [1]; expected an object such as"),
        ("[" * 100_000, "a.jsonl", "line 1: no JSON (maximum recursion"),
    ],
)
def test_what_is_refused(text: str | bytes, name: str, words: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        read(text, name)
    assert words in str(caught.value)


def test_files_that_cannot_be_read_or_are_too_long_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidArgument, match=r"FILE: cannot read nope.txt \(No such file or directory\); expected a text, CSV or JSON"):
        read_rows("nope.txt", None)
    monkeypatch.setattr(row_files, "MAX_ROWS", 2)
    assert len(read("a\nb\n", "a.txt")) == 2
    with pytest.raises(InvalidArgument, match=r"a\.txt has more than 2 rows; make several files of it"):
        read("a\nb\nc\n", "a.txt")
    monkeypatch.setattr(row_files, "MAX_BYTES", 1 << 20)
    with pytest.raises(InvalidArgument, match=r"a\.txt has more than 1 MiB"):
        read("a" * ((1 << 20) + 1), "a.txt")


def test_random_bytes_are_rows_or_refused() -> None:
    """Whatever a file holds, it gives rows of texts, or one InvalidArgument."""
    draw = random.Random(0)
    pieces = [
        "--prompt ",
        "--",
        '"',
        "'",
        "\\",
        ",",
        "\n",
        "\r\n",
        "{",
        "}",
        '{"prompt": 1}',
        "a",
        "#",
        "=",
        "\0",
        "é",
        "\u2028",
        "[1]",
        ":",
    ]
    for _ in range(3000):
        text = "".join(draw.choices(pieces, k=draw.randrange(12)))
        for kind, reader in row_files.READERS.items():
            refused = ""
            rows: list[Row] = []
            try:
                rows = list(reader(text))
            except InvalidArgument as error:
                refused = str(error)
            assert not refused or refused.startswith("line "), (kind, text)
            assert all(row.line >= 1 for row in rows)
            json.dumps([dict(row.said) for row in rows])
