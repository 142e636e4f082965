"""This version beside an older one: brokers and workers are replaced one by one, and back, under load."""
