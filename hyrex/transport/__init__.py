"""The SDK's calls of hyrex.v1. Wire types do not leave this package."""
