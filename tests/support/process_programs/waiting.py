"""A step that waits for a guard whose holder never comes back, as one in a debugger, until it is interrupted."""

import os
import signal
import threading

from support.training import compiled


def main() -> None:
    """Interrupt the wait, say so, and end without the holder."""
    step, _, X, Y = compiled()
    held = threading.Event()

    def hold() -> None:
        with step._lock:
            held.set()
            threading.Event().wait()

    threading.Thread(target=hold, daemon=True).start()
    held.wait()
    threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    try:
        step(X, Y)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        os._exit(0)


if __name__ == "__main__":
    main()
