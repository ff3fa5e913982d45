"""The store: where runs live on disk, and how each file of theirs is written and read."""
