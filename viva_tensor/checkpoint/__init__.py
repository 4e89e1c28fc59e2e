"""Weights and whole training states in safetensors files.

Weights have PyTorch's names and its layout [out, in], so that both libraries read the files. A checkpoint holds all
that a run needs to go on bit for bit: arrays as tensors, everything else as JSON in the metadata of the same file. Both
are data only; nothing in a file is ever executed. Both carry a checksum, so that a changed bit raises an error; files
of other libraries, which have none, are read as they are.

Users call `weights.py` and `states.py`; `codec.py` encodes values as JSON, `storage.py` reads and writes files.
"""

from viva_tensor.checkpoint.states import Checkpoint, latest, load, save
from viva_tensor.checkpoint.storage import checksum
from viva_tensor.checkpoint.weights import load_weights, save_weights

__all__ = ["Checkpoint", "checksum", "latest", "load", "load_weights", "save", "save_weights"]
