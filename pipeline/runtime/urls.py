"""URLs as they may be shown, logged and recorded: without what may be secret in them."""

import re


def without_secrets(text: str) -> str:
    """`text` with every URL in it cut to scheme, host and path: no login, and no query or fragment with a token."""
    return re.sub(r"(://[^\s\"?#]*)[?#][^\s\"]*", r"\1", re.sub(r"//[^/\s\"]*@", "//", text))
