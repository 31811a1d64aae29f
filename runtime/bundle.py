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
from pathlib import Path

from sd2rt.engine.errors import BundleError
from sd2rt.runtime.bundle_entries import Component, SmallFile, read_component, read_small_file
from sd2rt.runtime.document import Document
from sd2rt.runtime.rgb_factors import RgbFactors, read_factors

SCHEMA_VERSION = 1
MANIFEST = "bundle.json"
MAX_MANIFEST_BYTES = 4 << 20
TASKS = ("text-to-image", "inpainting", "depth-to-image", "upscaling")
PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What a call uses where it says nothing. `strength` and `noise_level` are None where the bundle leaves them to the task."""

    steps: int
    guidance_scale: float
    sampler: str
    strength: float | None = None
    noise_level: int | None = None


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
        components={name: read_component(path, name, components.child(name)) for name in components.fields},
        files={name: read_small_file(path, name, files.child(name)) for name in files.fields},
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
