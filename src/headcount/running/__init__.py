"""Where and how fast models run: runtimes, exports, measurements."""
