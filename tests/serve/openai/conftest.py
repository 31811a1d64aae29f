"""These tests need the serve extra and the official client."""

import pytest

for package in ("fastapi", "openai", "uvicorn"):
    pytest.importorskip(package, reason="needs the serve and dev extras")
