"""Tokens from a file and the environment."""

from pathlib import Path

import pytest

from sd2rt.engine.errors import InvalidArgument
from sd2rt.serve.token_file import read_tokens

LONG = "0123456789abcdef"


def written(folder: Path, text: str | bytes, mode: int = 0o600) -> Path:
    path = folder / "tokens.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)
    return path


def test_names_and_secrets(tmp_path: Path) -> None:
    text = f"# who may\n\nann:{LONG}1\n  bob : x\n{LONG}2\nan-odd name:{LONG}3\ncy:with:colons-{LONG}\n"
    found = read_tokens(written(tmp_path, text), {})
    assert found == (
        ("ann", f"{LONG}1"),
        ("line-4", "bob : x"),
        ("line-5", f"{LONG}2"),
        ("line-6", f"an-odd name:{LONG}3"),
        ("cy", f"with:colons-{LONG}"),
    )


def test_the_environment(tmp_path: Path) -> None:
    assert read_tokens(None, {}) == ()
    assert read_tokens(None, {"SD2RT_TOKEN": ""}) == ()
    assert read_tokens(None, {"SD2RT_TOKEN": LONG}) == (("token", LONG),)
    assert read_tokens(written(tmp_path, f"ann:{LONG}1"), {"SD2RT_TOKEN": LONG}) == (("ann", f"{LONG}1"), ("token", LONG))


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o610])
def test_a_file_that_others_can_read(mode: int, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"can be read by others \(mode 6\d\d\); expected 600: chmod 600 ") as caught:
        read_tokens(written(tmp_path, LONG, mode), {})
    assert LONG not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no token"),
        ("# nobody\n\n", "holds no token"),
        (b"\xff\xfe\x00", "is no text"),
        (f"ann:{LONG}\nbob:{LONG}", "one secret twice"),
    ],
)
def test_files_that_are_wrong(text: str | bytes, words: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=words) as caught:
        read_tokens(written(tmp_path, text), {})
    assert LONG not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(InvalidArgument, match="cannot be read"):
            read_tokens(path, {})
