"""Speed, memory and quality, each against a peer in the same run, or a record."""
