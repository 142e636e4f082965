"""Who may look and act: names of hosts, headers, the cookie of a session, where a POST comes from."""
