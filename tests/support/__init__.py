"""What tests share: real servers and real processes, started fast and always ended."""
