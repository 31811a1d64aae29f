"""Put an exported bundle beside toyworld's others: `python -m sd2rt.toyworld.assemble EXPORTED toyworld-NAME`; --help has its options.

All embedded models lie in one folder, toyworld/bundle, one manifest each. What lies there already, byte for byte, is named by its folder
and stored once; the rest goes to a folder of the model's own. The same exports in the same order give the same bytes.
"""

import argparse
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

BUNDLE = Path(__file__).parent / "bundle"
FAMILY = "toyworld-"
Manifest = dict[str, Any]
Content = tuple[tuple[str, str], ...]
"""File names and SHA-256s: what makes two folders' files the same."""


def assemble(exported: Path, name: str, bundle: Path, without: Sequence[str], defaults: Mapping[str, Any]) -> Path:
    """Write the manifest of the embedded model `name`, copy what `bundle` has not yet, and return the manifest's path.

    `without` are components to leave out; `defaults` replace single entries of the exported ones.
    """
    own = name.removeprefix(FAMILY)
    path = bundle / f"{own}.json"
    shutil.rmtree(bundle / own, ignore_errors=True)  # what an earlier run left
    document: Manifest = json.loads((exported / "bundle.json").read_bytes())
    document["name"] = name
    document["export"]["source"] = f"toyworld/{document['task']}"
    document["defaults"] |= defaults
    for part in without:
        document["components"].pop(part, None)
    document["files"] = {key: entry for key, entry in document["files"].items() if key.split("/")[0] not in without}
    stored = [(content, folder) for manifest in _others(path) for _, content, folder in _entries(manifest)]
    for entry, content, usual in _entries(document):
        folders = [folder for other, folder in stored if other == content]
        if not folders:
            folders = [str(PurePosixPath(own, usual))]
            (bundle / folders[0]).mkdir(parents=True, exist_ok=True)
            for file, _ in content:
                shutil.copyfile(exported / usual / file, bundle / folders[0] / file)
            stored.append((content, folders[0]))
        if usual not in folders:
            entry["folder"] = folders[0]
    path.write_text(json.dumps(document, indent=2) + "\n")
    return path


def _others(path: Path) -> Iterator[Manifest]:
    """Yield the other manifests beside `path`, in the order of their names."""
    for other in sorted(path.parent.glob("*.json")):
        document = json.loads(other.read_bytes())
        if other != path and "components" in document:
            yield document


def _entries(manifest: Manifest) -> Iterator[tuple[Manifest, Content, str]]:
    """Yield each component and small file of a manifest, its content, and the folder in which it lies."""
    for key, entry in manifest["components"].items():
        yield entry, tuple((file, entry["files"][file]["sha256"]) for file in sorted(entry["files"])), entry.get("folder", key)
    for key, entry in manifest["files"].items():
        path = PurePosixPath(key)
        yield entry, ((path.name, entry["sha256"]),), entry.get("folder", str(path.parent))


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, `sys.argv` when none is given, and assemble one model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exported", type=Path, help="the folder that sd2rt export wrote")
    parser.add_argument("name", help="toyworld-NAME, which sd2rt.runtime.models knows: the manifest is NAME.json")
    parser.add_argument("--without", action="append", default=[], metavar="COMPONENT", help="leave a component out; may be repeated")
    parser.add_argument("--defaults", type=json.loads, default={}, metavar="JSON", help='such as {"steps": 15, "strength": 1}')
    args = parser.parse_args(arguments)
    if not args.name.startswith(FAMILY):
        parser.error(f"name: got {args.name!r}, expected {FAMILY}NAME")
    assemble(args.exported, args.name, BUNDLE, args.without, args.defaults)


if __name__ == "__main__":
    main()
