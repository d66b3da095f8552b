"""Evaluation: perplexity, baselines, generated sentences, gradient flow, the report."""
