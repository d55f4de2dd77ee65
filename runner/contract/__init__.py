"""How champions of each contract epoch are started: arguments, environment, mounts, paths, resources."""
