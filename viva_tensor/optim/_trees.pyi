from collections.abc import Callable
from typing import Any

from viva_tensor.autograd import Variable

def leaves(params: Any) -> list[Variable]: ...
def replaced(params: Any, new: Callable[[Variable], Any]) -> Any: ...
