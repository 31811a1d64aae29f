"""CLIP's tokenizer as the one file the runtime reads."""

from importlib import resources
from pathlib import Path

from sd2rt.engine.errors import ExportError

PLACES = ("bundle/tokenizer",)


def shared_tokenizer() -> Path:
    """Return the folder of CLIP's real tokenizer (49,408 words) that ships inside `sd2rt.toyworld`.

    Raises ExportError where the package was installed without its bundle.
    """
    shipped = Path(str(resources.files("sd2rt.toyworld"))) / "bundle" / "tokenizer"
    for folder in (shipped, Path("/work/shared/toyworld/text2img/tokenizer")):
        if (folder / "tokenizer.json").is_file():
            return folder
    raise ExportError(f"no CLIP tokenizer at {shipped}: reinstall sd2rt with its embedded model, or export from a folder that has one")
