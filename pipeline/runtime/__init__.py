"""What all rooms stand on: files, errors, progress, processes, how a stage starts and ends."""
