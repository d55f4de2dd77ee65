"""Key providers: they do I/O, so they are not in `attestation`."""
