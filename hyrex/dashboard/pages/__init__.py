"""What each page shows, and what its actions do."""
