"""What all tests share: processes that tests start may be interrupted, even where the shell that runs the tests ignores Ctrl-C."""

import signal

# A background job of a shell ignores SIGINT, and so would everything that it starts; a handler is not inherited, the default is.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
