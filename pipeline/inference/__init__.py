"""A model in use: scoring, suggesting, generating, serving."""
