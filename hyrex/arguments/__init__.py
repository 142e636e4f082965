"""Arguments and results: signatures, schemas, bytes, and the refusal of what would not arrive."""
