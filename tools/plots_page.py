"""The page of `dvc plots show`, with its scripts inside: DVC's own loads them from the web and is blank without it.

`make setup` runs this module; `.dvc/config` names the file. The scripts (Vega, Vega-Lite, Vega-Embed) come from the
package vl-convert-python, which carries them.
"""

import sys
from pathlib import Path

from pipeline.runtime.files import write_text

# DVC fills in {refresh_tag} and {plot_divs}.
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
    <meta charset="utf-8">
    {refresh_tag}
    <title>rnnlm: plots</title>
    <script>SCRIPTS</script>
    <style>
        body { font-family: sans-serif; margin: 2rem; }
        body > div { display: inline-block; vertical-align: top; }
    </style>
</head>
<body>
    {plot_divs}
</body>
</html>
"""


def write_plots_page(path: Path) -> None:
    """Write the template to `path`."""
    import vl_convert

    write_text(path, PAGE.replace("SCRIPTS", vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")))


if __name__ == "__main__":
    write_plots_page(Path(sys.argv[1]))
