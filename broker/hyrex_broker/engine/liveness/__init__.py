"""Everything with a time limit: heartbeats, expired sessions, overdue runs."""
