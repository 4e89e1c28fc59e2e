"""``python -m viva_tensor``, and the entry point of the ``viva-tensor`` command."""

import sys


def main() -> None:
    """Run the command line, or say in one line what to install for it."""
    try:
        from viva_tensor.cli import cli
        from viva_tensor.distributed import job, world
    except ImportError as error:
        package = (error.name or "viva_tensor").partition(".")[0]
        if package == "viva_tensor":
            raise
        print(f'Error: the command line needs {package}; pip install "viva-tensor[train]"', file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("Error: interrupted; nothing was written", file=sys.stderr)
        sys.exit(130)
    try:
        comm = world()
    except ImportError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)
    with job(comm):
        cli.main(prog_name="viva-tensor", obj=comm, standalone_mode=comm is None)


if __name__ == "__main__":
    main()
