compiler: str
flags: str
variants: dict[str, str]
debug: bool
isa: str

def supported() -> list[str]: ...
