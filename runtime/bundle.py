"""A bundle on disk: what its manifest says, checked, as plain values.

The manifest is `bundle.json`. A folder may hold several models that share files: one manifest each, `bundle.json` and others beside it.
A component's files lie in the subfolder of its name, a small file where its name says; a manifest may name another `folder` for either.

Checks the schema, every path (inside the folder, no links out of it) and every file's size when it is read. Hashes of the
weights are checked where an engine is built from them; small files are checked by `Bundle.read_file`. Knows no engine,
tokenizer or sampler.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sd2rt.engine.errors import BundleError
from sd2rt.engine.spec import ComponentFiles, TensorSpec
from sd2rt.runtime.document import Document
from sd2rt.runtime.rgb_factors import RgbFactors, read_factors

SCHEMA_VERSION = 1
MANIFEST = "bundle.json"
MAX_MANIFEST_BYTES = 4 << 20
TASKS = ("text-to-image", "inpainting", "depth-to-image", "upscaling")
PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")
TENSOR_DTYPES = ("float32", "float16", "int64", "int32")


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What a call uses where it says nothing. `strength` and `noise_level` are None where the bundle leaves them to the task."""

    steps: int
    guidance_scale: float
    sampler: str
    strength: float | None = None
    noise_level: int | None = None


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A checked bundle. `native_size` is (height, width) in pixels; `sha256` is that of the manifest, which names every file's."""

    manifest: Path
    sha256: str
    name: str
    task: str
    prediction_type: str
    native_size: tuple[int, int]
    latent_channels: int
    latent_factor: int
    scaling_factor: float
    scheduler: Mapping[str, object]
    defaults: Defaults
    components: Mapping[str, Component]
    files: Mapping[str, SmallFile]
    max_noise_level: int | None = None
    """The most noise that an upscaler was trained to see on the small picture; None for other tasks."""
    latent_rgb: RgbFactors | None = None
    """How to preview latents without a decoder, where the manifest says so."""
    traced_multiple: int | None = None
    """What sides in pixels must be multiples of, where the manifest says more than the latents' cells: of a UNet that was traced."""

    @property
    def folder(self) -> Path:
        """Where the manifest and all files lie."""
        return self.manifest.parent

    @property
    def size_multiple(self) -> int:
        """What the sides of a painted picture must be multiples of, in pixels."""
        return self.traced_multiple or self.latent_factor

    def component(self, name: str) -> Component:
        """Return one component. Raises BundleError when the bundle has none of that name."""
        if name not in self.components:
            raise BundleError(f"{self.manifest}: has no {name}, only {', '.join(self.components)}; export the model again with it")
        return self.components[name]

    def read_file(self, name: str) -> bytes:
        """Read a small file whole and check its hash. Raises BundleError when it is missing, unreadable or changed."""
        if name not in self.files:
            raise BundleError(f"{self.manifest}: names no {name}; export the model again")
        file = self.files[name]
        try:
            content = file.path.read_bytes()
        except OSError as error:
            raise BundleError(f"{file.path} cannot be read: {error.strerror}") from None
        digest = hashlib.sha256(content).hexdigest()
        if digest != file.sha256:
            said = f"{self.manifest.name} says {file.sha256[:12]}"
            raise BundleError(f"{file.path} is damaged: its SHA-256 is {digest[:12]}, {said}; export again")
        return content


def read_bundle(bundle: Path) -> Bundle:
    """Read and check a bundle: a folder, or a manifest in one. Raises BundleError saying what is missing, damaged or too new."""
    path = bundle if bundle.suffix == ".json" and not bundle.is_dir() else bundle / MANIFEST
    content = _read_manifest(path)
    document = Document.parse(content, str(path))
    version = document.integer("schema_version", 1)
    if version != SCHEMA_VERSION:
        raise BundleError(f"{path}: schema version {version}, this sd2rt reads {SCHEMA_VERSION}: update sd2rt or export the model again")
    components = document.child("components")
    files = document.child("files")
    task = document.text("task", TASKS)
    return Bundle(
        manifest=path,
        sha256=hashlib.sha256(content).hexdigest(),
        name=document.text("name"),
        task=task,
        prediction_type=document.text("prediction_type", PREDICTION_TYPES),
        native_size=_native_size(document),
        latent_channels=document.integer("latent_channels", 1),
        latent_factor=document.integer("latent_factor", 1),
        scaling_factor=document.number("scaling_factor", above=0.0),
        scheduler=document.child("scheduler").fields,
        defaults=_defaults(document.child("defaults")),
        components={name: _component(path, name, components.child(name)) for name in components.fields},
        files={name: _small_file(path, name, files.child(name)) for name in files.fields},
        max_noise_level=document.integer("max_noise_level", 0) if task == "upscaling" else None,
        latent_rgb=read_factors(document, document.integer("latent_channels", 1)),
        traced_multiple=_traced_multiple(document),
    )


def _read_manifest(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_MANIFEST_BYTES + 1)
    except OSError as error:
        raise BundleError(f"{path} cannot be read ({error.strerror}): expected a bundle folder that `sd2rt export` wrote") from None
    if len(content) > MAX_MANIFEST_BYTES:
        raise BundleError(f"{path} is damaged: it is larger than {MAX_MANIFEST_BYTES >> 20} MiB; export the model again")
    return content


def _native_size(document: Document) -> tuple[int, int]:
    size = document.items("native_size")
    factor = document.integer("latent_factor", 1)
    pixels = [side for side in size if isinstance(side, int) and not isinstance(side, bool) and side > 0 and side % factor == 0]
    if len(size) != 2 or len(pixels) != 2:
        raise BundleError(f"{document.where}: native_size: got {size}, expected [height, width] in pixels, multiples of {factor}")
    return pixels[0], pixels[1]


def _traced_multiple(document: Document) -> int | None:
    if "size_multiple" not in document.fields:
        return None
    multiple, factor = document.integer("size_multiple", 1), document.integer("latent_factor", 1)
    if multiple % factor:
        raise BundleError(f"{document.where}: size_multiple: got {multiple}, expected a multiple of latent_factor, {factor}")
    return multiple


def _defaults(document: Document) -> Defaults:
    strength = document.number("strength", above=0.0) if "strength" in document.fields else None
    if strength is not None and strength > 1:
        raise BundleError(f"{document.where}: strength: got {strength:g}, expected a number above 0 and at most 1")
    return Defaults(
        steps=document.integer("steps", 1),
        guidance_scale=document.number("guidance_scale"),
        sampler=document.text("sampler"),
        strength=strength,
        noise_level=document.integer("noise_level", 0) if "noise_level" in document.fields else None,
    )


def _component(manifest: Path, name: str, document: Document) -> Component:
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


def _small_file(manifest: Path, name: str, document: Document) -> SmallFile:
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
