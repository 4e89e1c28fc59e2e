compiler: str
flags: str
variants: dict[str, str]
debug: bool
isa: str
lanes: int

def supported() -> list[str]: ...
