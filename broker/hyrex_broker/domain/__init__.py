"""The words and rules of the broker. Pure: no I/O, no wire types."""
