"""Generated from proto/hyrex/v1 by scripts/gen-proto. Do not edit."""
