"""What tasks read: tables, lines, labels, parallel text."""
