"""Worker sessions: which are connected, with which lanes and leases."""
