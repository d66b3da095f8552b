"""Text: documents, sentences, tokens, vocabulary, ids. Knows no model."""
