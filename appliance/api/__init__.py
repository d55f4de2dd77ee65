"""The HTTP API: reads the database and writes runs' rows; it never carries out a step of a run."""
