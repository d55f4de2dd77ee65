"""Where a job runs: one port, several launchers."""
