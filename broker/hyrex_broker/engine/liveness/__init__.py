"""What time decides: renewed sessions, expired ones, overdue runs."""
