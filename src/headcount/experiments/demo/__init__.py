"""The demonstration and the data that it generates."""
