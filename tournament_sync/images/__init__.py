"""Images: built once on a connected host, pinned by digest, loaded by digest where there is no network."""
