"""Values as HTML. What came from users is text and nothing else, whatever characters it has."""
