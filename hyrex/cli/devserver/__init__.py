"""What `hyrex dev` is made of: children that are kept running, and a worker that follows the code."""
