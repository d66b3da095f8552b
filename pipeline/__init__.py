"""rnnlm: raw text in, compared recurrent language models out."""
