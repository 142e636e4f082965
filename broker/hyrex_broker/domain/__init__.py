"""The values and rules of the broker, without I/O and without wire types."""
