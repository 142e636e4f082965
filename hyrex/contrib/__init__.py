"""Ready-made middleware and codecs; each module needs the library that its own docstring names."""
