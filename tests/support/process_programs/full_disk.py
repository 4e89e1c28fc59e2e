"""A file that is replaced while files may not grow beyond 1000 bytes, as on a disk that is full."""

import resource
import signal
import sys

from viva_tensor import files

if __name__ == "__main__":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    try:
        files.replace(sys.argv[1], bytes(5000))
    except OSError as error:
        print(error)
