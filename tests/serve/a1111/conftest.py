"""These tests need the serve extra."""

import pytest

for package in ("fastapi", "uvicorn"):
    pytest.importorskip(package, reason="needs the serve and dev extras")
