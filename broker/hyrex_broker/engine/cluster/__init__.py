"""What brokers of one database do for one another: notifications, presence, retention."""
