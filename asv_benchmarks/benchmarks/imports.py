"""What a user waits for and stores."""

from pathlib import Path

import viva_tensor


class Import:
    """In a fresh interpreter that has imported NumPy already."""

    number = 1
    rounds = 2
    repeat = 5

    def timeraw_import(self):
        return "import viva_tensor", "import numpy"


class Installed:
    unit = "bytes"

    def track_package(self):
        files = Path(viva_tensor.__file__).parent.rglob("*")
        return sum(file.stat().st_size for file in files if file.is_file() and "__pycache__" not in file.parts)
