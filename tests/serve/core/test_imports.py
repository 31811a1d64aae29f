"""What workers and Ray's replicas import: neither HTTP nor torch."""

import subprocess
import sys

BLOCKED = ("torch", "diffusers", "transformers", "fastapi", "starlette", "uvicorn", "prometheus_client", "ray")
MODULES = ("service", "workers", "worker_process", "painting", "shelf", "settings", "backend", "observe")


def test_the_core_needs_no_http() -> None:
    code = f"import sys; sys.modules.update(dict.fromkeys({BLOCKED!r}))\n" + "".join(f"import sd2rt.serve.{name}\n" for name in MODULES)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
