"""Tables: reading them, columns as features and targets, networks for them, and the files and reports of a run."""
