"""Worker sessions: who is connected, with which lanes and leases."""
