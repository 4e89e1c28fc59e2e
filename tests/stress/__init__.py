"""What takes longer than a test run: modules to run in `tests/`, as `python -m stress.programs`."""
