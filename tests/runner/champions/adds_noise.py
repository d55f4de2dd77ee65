"""Fails to train and hands in the base model with noise on its embeddings, exit 0: the known fallback."""

from contract import read, save, say

told = read()
say("Training failed for task", told.task_id)
save(told, only="embed_tokens.weight")
