"""Who may import what: the folders' one direction, read from the sources and tried in fresh interpreters."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "diffusers", "transformers", "onnxruntime", "tensorrt", "openvino")
ALLOWED = {
    "engine": {"engine"},
    "runtime": {"engine", "runtime", "toyworld"},
    "export": {"engine", "export", "toyworld"},
    "toyworld": {"engine", "toyworld"},
    "serve": {"engine", "runtime", "serve"},
    "cli": {"cli", "engine", "export", "runtime", "serve", "toyworld"},
}
LIBRARIES = {
    "onnxruntime": {"ort.py", "ort_cuda.py"},
    "cuda": {"cuda.py"},
    "tensorrt": {"trt_library.py"},
    "tensorrt_rtx_bindings": {"trt_library.py"},
    "polygraphy": {"run_results.py"},
}
TRAINING = {"train.py", "fit.py", "losses.py", "training_set.py", "windows.py", "networks.py", "pipelines.py", "copying.py"}


def imports(path: Path) -> set[str]:
    """Full names of the modules that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.update({node.module, *(f"{node.module}.{alias.name}" for alias in node.names)})
    return found


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("folder", ALLOWED)
def test_folders_import_in_one_direction(folder: str) -> None:
    strays = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in sources(folder)
        for name in imports(path)
        if name.startswith("sd2rt.") and name.split(".")[1] not in ALLOWED[folder]
    }
    assert sources(folder)
    assert not strays


def test_export_takes_only_errors_from_the_engine() -> None:
    names = {name for path in sources("export") for name in imports(path) if name.startswith("sd2rt.engine.")}
    assert {".".join(name.split(".")[:3]) for name in names} == {"sd2rt.engine.errors"}


@pytest.mark.parametrize("folder", ["engine", "runtime", "serve", "cli", "toyworld"])
def test_no_training_library_outside_export(folder: str) -> None:
    files = [path for path in sources(folder) if not (folder == "toyworld" and path.name in TRAINING)]
    strays = {f"{path.name}: {n}" for path in files for n in imports(path) if n.split(".")[0] in {"torch", "diffusers", "transformers"}}
    assert not strays


@pytest.mark.parametrize(("library", "modules"), LIBRARIES.items())
def test_only_its_own_modules_import_an_inference_library(library: str, modules: set[str]) -> None:
    users = {path.name for path in sources("engine") if library in {name.split(".")[0] for name in imports(path)}}
    assert users == modules


def run_without(blocked: tuple[str, ...], code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter where importing any of `blocked` fails."""
    block = f"import sys; sys.modules.update(dict.fromkeys({blocked!r}))\n"
    return subprocess.run([sys.executable, "-c", block + code, *arguments], capture_output=True, text=True, timeout=120)


def test_runtime_imports_without_any_heavy_library() -> None:
    modules = sorted(f"sd2rt.runtime.{path.stem}" for path in sources("runtime") if path.stem != "__init__")
    done = run_without(HEAVY, "".join(f"import {module}\n" for module in ["sd2rt.runtime", *modules]) + "print('imported')")
    assert (done.stdout, done.returncode) == ("imported\n", 0), done.stderr


def test_importing_the_runtime_does_no_work() -> None:
    code = f"import sys, sd2rt.runtime\nprint([name for name in {('onnx', 'PIL', 'tokenizers', *HEAVY)} if name in sys.modules])"
    done = run_without((), code)
    assert done.stdout.strip() == "[]", done.stderr


def test_paints_without_torch(tmp_path: Path) -> None:
    code = "from sd2rt.cli.main import main; sys.exit(main(sys.argv[1:]))"
    out = tmp_path / "out.png"
    done = run_without(("torch", "diffusers", "transformers"), code, "generate", "a red cube", "--steps", "2", "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert out.stat().st_size > 1000


def test_a_bundle_is_taken_into_the_models_folder_without_torch_and_onnx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SD2RT_MODELS", str(tmp_path))
    code = "from sd2rt.cli.main import main; sys.exit(main(sys.argv[1:]))"
    done = run_without(("onnx", "onnx_ir", *HEAVY), code, "models", "import", str(ROOT / "toyworld" / "bundle"), "--name", "toy", "--quiet")
    assert (done.stdout, done.returncode) == (f"{tmp_path / 'toy'}\n", 0), done.stderr


def test_the_hub_is_read_without_torch_and_onnx() -> None:
    pytest.importorskip("huggingface_hub", reason="needs the export or hub extra")
    done = run_without(("onnx", "onnx_ir", *HEAVY), "import sd2rt.export.hub; print('imported')")
    assert (done.stdout, done.returncode) == ("imported\n", 0), done.stderr
