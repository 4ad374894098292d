"""Readers of the data of tasks: tables, lines, labels and parallel text."""
