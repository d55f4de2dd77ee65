"""How a job is isolated: one port, several drivers."""
