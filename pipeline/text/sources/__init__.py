"""Where documents come from: files, URLs, archives, installed packages."""
