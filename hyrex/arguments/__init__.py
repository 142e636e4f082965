"""Arguments and results: signatures, schemas, bytes, and the refusal of values that JSON would change."""
