"""Make the two reference pages from the code: `python docs/make_reference.py`.

docs/cli.md holds every verb's `--help`, docs/python-api.md the docstrings of what the packages make public. griffe (extra `dev`) reads
the sources; nothing is written by hand, so that nothing can be out of date: `tests/docs/test_reference.py` compares.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
import griffe

from sd2rt.cli.main import sd2rt

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("runtime", "engine", "export")
HANDED_OUT = (
    *("sd2rt.runtime.text_to_image.TextToImage", "sd2rt.runtime.options.Options", "sd2rt.runtime.result.Result"),
    *("sd2rt.runtime.result.Timings", "sd2rt.runtime.result.State"),
)
"""What `load` returns, and what that takes and returns: public without being in an `__all__`."""
INSTEAD = {"sd2rt.runtime.load": "sd2rt.runtime.loading.load"}
"""Functions that only import, and those that say what they do."""
ERRORS = "sd2rt.engine.errors"
"""The module whose docstring draws all errors: they are shown as that tree."""
WIDTH = 100  # characters of a line of code


def cli_page() -> str:
    """Return the page of all verbs, in the order in which `sd2rt --help` lists them."""
    parts = ["# The command line", "What `sd2rt VERB --help` says, made by `python docs/make_reference.py`.", *verbs(sd2rt, "sd2rt")]
    return "\n\n".join(parts) + "\n"


def verbs(command: click.Command, path: str, parent: click.Context | None = None) -> Iterator[str]:
    """Yield a heading and the help of a command, then of the commands below it."""
    settings = {**command.context_settings, "terminal_width": WIDTH, "max_content_width": WIDTH}
    context = click.Context(command, info_name=path.rpartition(" ")[2], parent=parent, **settings)
    yield f"## {path}"
    yield f"```text\n{command.get_help(context)}\n```"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below and not below.hidden:
                yield from verbs(below, f"{path} {name}", context)


def api_page() -> str:
    """Return the page of all that the packages make public."""
    parts = ["# The Python API", "The docstrings of what is public, made by `python docs/make_reference.py`."]
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder, "sd2rt")  # griffe looks for packages under the names that they are imported by
        tree.mkdir()
        for name in FOLDERS:
            (tree / name).symlink_to(ROOT / name)
        loader = griffe.GriffeLoader(search_paths=[folder])
        for name in FOLDERS:
            loader.load(f"sd2rt.{name}")
        for name in FOLDERS:
            parts += package(loader, f"sd2rt.{name}")
    return "\n\n".join(parts) + "\n"


def package(loader: griffe.GriffeLoader, path: str) -> Iterator[str]:
    """Yield a package's heading and docstring, and what is in its `__all__` and in HANDED_OUT: functions, classes, errors."""
    module = loader.modules_collection[path]
    yield f"## {path}"
    yield docstring(module)
    public = [f"{path}.{name}" for name in module.exports or ()] + [name for name in HANDED_OUT if name.startswith(f"{path}.")]
    found = [(name, loader.modules_collection[INSTEAD.get(name, name)]) for name in public]
    for _, thing in found:
        if thing.is_alias:
            thing.resolve_target()
    errors = [name for name, thing in found if thing.canonical_path.startswith(f"{ERRORS}.")]
    for name, thing in sorted(found, key=lambda pair: pair[1].is_class):
        if name not in errors:
            yield from describe(name, thing)
    if errors:
        yield f"### {path}: errors"
        yield docstring(loader.modules_collection[ERRORS])


def describe(path: str, thing: griffe.Object | griffe.Alias) -> Iterator[str]:
    """Yield the heading, signature and docstring of a function, or of a class with its attributes and methods."""
    yield f"### {path}"
    if thing.is_function:
        yield f"```python\n{signature(thing)}\n```"
        yield docstring(thing)
        return
    yield f"```python\nclass {thing.name}{bases(thing)}\n```"
    yield docstring(thing)
    attributes = [member for member in thing.members.values() if member.is_attribute and member.annotation and member.name[0] != "_"]
    if attributes:
        yield "\n".join(attribute(member) for member in attributes)
    for member in thing.members.values():
        if member.is_function and member.docstring and (member.name == "__call__" or not member.name.startswith("_")):
            yield f"```python\n{signature(member)}\n```"
            yield docstring(member)


def bases(thing: griffe.Object | griffe.Alias) -> str:
    """Return what a class derives from, in brackets, less what says nothing to a reader."""
    names = ", ".join(str(base) for base in thing.bases)
    return f"({names})" if names else ""


def attribute(member: griffe.Object | griffe.Alias) -> str:
    """Return an attribute as an item of a list: name, type, default, and what its docstring says."""
    simple = member.value is not None and not str(member.value).startswith("field(")
    text = f"- `{member.name}: {member.annotation}{f' = {member.value}' if simple else ''}`"
    return f"{text}  \n  {indent(member.docstring.value)}" if member.docstring else text


def indent(text: str) -> str:
    """Indent the lines after the first, as those of a list's item."""
    return "\n".join(line and f"  {line}" for line in text.splitlines()).lstrip()


def docstring(thing: griffe.Object | griffe.Alias) -> str:
    """Return a docstring, which is Markdown already."""
    return thing.docstring.value if thing.docstring else ""


def signature(function: griffe.Object | griffe.Alias) -> str:
    """Return a function's signature, with a line for each parameter where one line is too long."""
    kinds = griffe.ParameterKind
    words: list[str] = []
    for parameter in function.parameters:
        if parameter.name == "self":
            continue
        stars = {kinds.var_positional: "*", kinds.var_keyword: "**"}.get(parameter.kind, "")
        if parameter.kind is kinds.keyword_only and not any(word.startswith("*") for word in words):
            words.append("*")
        annotation = f": {parameter.annotation}" if parameter.annotation else ""
        default = f" = {parameter.default}" if parameter.default is not None and not stars else ""
        words.append(f"{stars}{parameter.name}{annotation}{default}")
    head, tail = f"{function.name}(", f") -> {function.returns}"
    line = head + ", ".join(words) + tail
    return line if len(line) <= WIDTH else head + "\n" + "".join(f"    {word},\n" for word in words) + tail


def main() -> None:
    """Write both pages."""
    (ROOT / "docs/cli.md").write_text(cli_page())
    (ROOT / "docs/python-api.md").write_text(api_page())


if __name__ == "__main__":
    main()
