"""Settings and records: plain values and files."""
