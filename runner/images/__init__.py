"""Container images as folders: unpacked once from verified layers, listed, found to be as they were."""
