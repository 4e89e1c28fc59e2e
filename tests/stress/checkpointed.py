"""The command line, with checkpoints at epochs instead of minutes: what stress/rank_kills.py kills."""

from viva_tensor import __main__, train

if __name__ == "__main__":
    defaults = train.fit.__kwdefaults__
    assert defaults is not None
    defaults["checkpoint_epochs"] = 1
    __main__.main()
