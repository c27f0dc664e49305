"""`python -m sdrt` is `sdrt`."""

import signal
from typing import NoReturn


def run() -> NoReturn:
    """Run the command line.

    Ctrl-C ends the process at once until the command handles it, so that imports end without a traceback.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from sdrt.cli import main

    main()


if __name__ == "__main__":
    run()
