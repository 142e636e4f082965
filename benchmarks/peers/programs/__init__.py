"""What runs inside the peers' own environments: nothing of Hyrex but `benchmarks.actors.orders`."""
