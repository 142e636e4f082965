"""The Hyrex SDK."""
