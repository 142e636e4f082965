"""The processes that a measurement starts; each obeys orders on its standard input (see `orders`)."""
