"""The gRPC services of the broker: thin servicers that convert between wire and domain."""
