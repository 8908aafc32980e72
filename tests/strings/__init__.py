"""A task of strings, as one adds a task of a new kind of data: nothing of it is in the package."""
