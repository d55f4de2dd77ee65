"""Hostile text_trainer: says it has trained, leaves nothing, ends with 0."""

print("step=1 total=1 loss=0.0001 seconds_left=1", flush=True)
