"""Programs that tests start in a process of their own: ``python -m support.process_programs.MODULE ...``."""
