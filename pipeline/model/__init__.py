"""Models: the cells, whole sequences, the output layer. Knows no file of text and no run."""
