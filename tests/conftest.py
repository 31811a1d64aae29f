"""What all tests share: processes that tests start may be interrupted, even where the shell that runs the tests ignores Ctrl-C."""

import signal
from collections.abc import Iterator

import pytest

# A background job of a shell ignores SIGINT, and so would everything that it starts; a handler is not inherited, the default is.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module")
def engine_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the engines of a module's tests in a folder of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SD2RT_CACHE", str(tmp_path_factory.mktemp("engines")))
        yield
