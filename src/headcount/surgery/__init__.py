"""Removing units for good, and the check that it was exact."""
