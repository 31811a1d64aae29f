"""What all tests share: an engine cache, and that processes which tests start may be interrupted.

The latter even where the shell that runs the tests ignores Ctrl-C.
"""

import os
import signal
from collections.abc import Iterator

import pytest

# A background job of a shell ignores SIGINT, and so would everything that it starts; a handler is not inherited, the default is.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def engine_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep engines out of the user's cache, in a folder for all tests of a run that name no other, and for all of its processes."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "engines"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SD2RT_CACHE", str(folder))
        yield
