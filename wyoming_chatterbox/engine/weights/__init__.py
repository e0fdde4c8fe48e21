"""A model's files: the pinned repository, the hub they are downloaded from, and the folder they lie in."""
