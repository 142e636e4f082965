"""The pool: the part of the stream process that starts children and gives them work."""
