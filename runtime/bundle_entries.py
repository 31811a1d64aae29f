"""A manifest's entries: components, and small files beside them, whose files are there, inside the bundle and of the size written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sd2rt.engine.errors import BundleError
from sd2rt.engine.spec import ComponentFiles, TensorSpec
from sd2rt.runtime.document import Document

TENSOR_DTYPES = ("float32", "float16", "int64", "int32")


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """One network of the bundle: its files, the dtype it was exported in, whether `sd2rt quantize` put layers in int8, and its tensors."""

    files: ComponentFiles
    dtype: str
    int8: bool
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallFile:
    """A file beside the components, such as the tokenizer's."""

    path: Path
    sha256: str


def read_component(manifest: Path, name: str, document: Document) -> Component:
    """Return the component of an entry. Raises BundleError for a file that is missing, elsewhere or of another size, and a wrong entry."""
    files = document.child("files")
    nested = [file for file in files.fields if "/" in file or "\\" in file]
    if nested:
        raise BundleError(f"{files.where}: got {nested[0]!r}, expected a plain file name; export the model again")
    folder = _folder(document, name)
    paths = [_checked_file(manifest, f"{folder}/{file}", files.child(file)) for file in files.fields]
    graphs = [path for path in paths if path.suffix == ".onnx"]
    if len(graphs) != 1:
        raise BundleError(f"{files.where}: got {', '.join(files.fields) or 'nothing'}, expected exactly one .onnx file")
    return Component(
        files=ComponentFiles(
            name=name,
            onnx=graphs[0],
            data=tuple(path for path in paths if path != graphs[0]),
            sha256={file: _sha256(files.child(file)) for file in files.fields},
        ),
        dtype=document.text("dtype", ("float16", "float32")),
        int8="int8" in document.fields,
        inputs=tuple(_tensor(tensor) for tensor in document.children("inputs")),
        outputs=tuple(_tensor(tensor) for tensor in document.children("outputs")),
    )


def read_small_file(manifest: Path, name: str, document: Document) -> SmallFile:
    """Return the small file of an entry, `name` being its path unless the entry has a folder. Raises BundleError as `read_component`."""
    path = f"{_folder(document, '.')}/{PurePosixPath(name).name}" if "folder" in document.fields else name
    return SmallFile(path=_checked_file(manifest, path, document), sha256=_sha256(document))


def _folder(document: Document, usual: str) -> str:
    """Return the subfolder of the bundle in which an entry's files lie: `usual`, if the entry names none."""
    return document.text("folder") if "folder" in document.fields else usual


def _tensor(document: Document) -> TensorSpec:
    axes = document.items("shape")
    if not all(isinstance(axis, int | str) and not isinstance(axis, bool) for axis in axes):
        raise BundleError(f"{document.where}: shape: got {axes}, expected a list of integers and names")
    shape = tuple(axis for axis in axes if isinstance(axis, int | str))
    return TensorSpec(name=document.text("name"), dtype=document.text("dtype", TENSOR_DTYPES), shape=shape)


def _sha256(document: Document) -> str:
    digest = document.text("sha256")
    if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        raise BundleError(f"{document.where}: sha256: got {digest[:80]!r}, expected 64 hexadecimal digits")
    return digest


def _checked_file(manifest: Path, name: str, document: Document) -> Path:
    """Return the path of a file that a manifest names, after checking that it lies inside the bundle and has the size written."""
    folder = manifest.parent
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts or "\\" in name or not relative.parts:
        raise BundleError(f"{document.where}: {name!r} is no path inside the bundle")
    path = folder / relative
    try:
        if not path.resolve(strict=True).is_relative_to(folder.resolve()):
            raise BundleError(f"{path} is a link that leads out of the bundle; copy the file into it")
        size = path.stat().st_size
    except (OSError, RuntimeError, ValueError) as error:
        raise BundleError(f"{path} is missing or unreadable ({error}): the bundle is incomplete, export the model again") from None
    if size != document.integer("bytes", 0):
        said = f"{manifest.name} says {document.fields['bytes']}"
        raise BundleError(f"{path} is damaged: it has {size} bytes, {said}; export the model again")
    return path
