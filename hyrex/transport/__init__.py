"""How the SDK speaks hyrex.v1. Wire types stay below this package."""
