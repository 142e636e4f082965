"""What brokers of one database owe to one another: notifications, presence, retention."""
