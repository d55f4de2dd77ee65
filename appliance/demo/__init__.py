"""The main job as one command: every part real, on this machine, in a few minutes."""
