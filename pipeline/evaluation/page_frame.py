"""The frame of the interactive page: one HTML file that needs nothing else, with Vega and Vega-Lite inside.

Text of a corpus, or of a model, reaches the page as JSON only, in which no `<` is left, and the script puts it there as
text, never as markup. A policy in the page lets no other script run than its own two, known by their hashes, nothing be
loaded, and nothing be evaluated: Vega's expressions are interpreted.
"""

import base64
import hashlib
import html
import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from pipeline.evaluation.page_script import SCRIPT

PAGE_FILE = "index.html"  # in data/report
FOOT = "<!--about-->"  # where a copy of the page says of which commit and run it is

# Each section: the key of the data that it shows, its heading, and what stands below that.
SECTIONS = (
    (
        "models",
        "All models",
        "<p id='intervals'></p><div id='forest' class='chart'></div>"
        "<details><summary>The figures</summary><div id='models-table' class='wide'></div></details>"
        "<details id='pairs-details'><summary>Every pair, by a paired test</summary><p id='pairs-about'></p>"
        "<div id='pairs-table' class='wide'></div></details>",
    ),
    (
        "curves",
        "Learning curves",
        "<p>Validation perplexity after each epoch, lower is better; a ring marks the epoch that is kept. Drag to "
        "move, zoom with the buttons, or with Shift and the wheel.</p>"
        "<p class='buttons'><button id='zoom-in'>Zoom in</button> <button id='zoom-out'>Zoom out</button> "
        "<button id='zoom-reset'>Show all</button></p>"
        "<div id='curves-chart' class='chart'></div><ul class='key' id='curves-key'></ul>"
        "<details><summary>The figures</summary><div id='curves-table' class='wide'></div></details>",
    ),
    (
        "sentences",
        "A sentence, word by word",
        "<p id='sentences-about'></p>"
        "<p class='buttons'><label>Sentence <select id='sentence'></select></label> "
        "<button id='earlier'>Previous</button> <button id='later'>Next</button></p>"
        "<ul class='key' id='surprise-key' aria-label='Colours'></ul>"
        "<p class='hint'>Point at a word, tap it, or move with the arrow keys, to see what models expected there.</p>"
        "<div id='reading'></div><div id='expected' aria-live='polite'></div>",
    ),
    (
        "where",
        "Where each model is better",
        "<p id='where-about'></p><ul class='key' id='where-key'></ul><div id='where-charts' class='grid'></div>"
        "<details><summary>The figures</summary><div id='where-table' class='wide'></div></details>",
    ),
    (
        "gradient",
        "What the cells remember",
        "<p>How strongly the loss at a word still depends on the network's state some words earlier, relative to that "
        "at the word itself. The state is all that a cell hands on, of an LSTM s and c. Where the curve falls fast, "
        "words far back teach nothing. Last, two plain RNNs that nobody trained: with weights of the usual size the "
        "gradient vanishes, with weights five times as large it explodes.</p>"
        "<div class='grid' id='gradient-charts'></div><ul class='key' id='gradient-key'></ul>"
        "<details><summary>The figures</summary><div id='gradient-table' class='wide'></div></details>",
    ),
    (
        "units",
        "Units along a sentence",
        "<p>What the units of each network's last layer hold after each word: those that vary most, a row each. Blue "
        "is -1, white or black 0, orange 1. A stripe that goes on is something the network keeps.</p>"
        "<p class='buttons'><label>Sentence <select id='units-sentence'></select></label></p>"
        "<div class='grid' id='units-charts'></div>",
    ),
    (
        "neighbours",
        "Words that are near each other",
        "<p>The nearest words by the cosine of what each network reads of a word, among the 5,000 most frequent.</p>"
        "<div class='wide' id='neighbours-table' tabindex='0' role='region' aria-label='Neighbours'></div>",
    ),
    (
        "samples",
        "Sentences the networks wrote",
        "<p class='buttons'><label>Temperature <select id='temperature'></select></label> lower: likelier words, "
        "duller sentences</p>"
        "<div class='wide' id='samples-table' tabindex='0' role='region' aria-label='Samples'></div>",
    ),
)

STYLE = """
:root { color-scheme: light dark; --back: #ffffff; --text: #1c1c1c; --soft: #595959; --line: #d9d9d9; --panel: #f5f5f3;
  --accent: #005a9c; SURPRISE_LIGHT }
@media (prefers-color-scheme: dark) { :root { --back: #16181b; --text: #ececec; --soft: #b0b0b0; --line: #3c4046;
  --panel: #202328; --accent: #7cc4ff; SURPRISE_DARK } }
* { box-sizing: border-box; }
body { font: 16px/1.55 system-ui, sans-serif; color: var(--text); background: var(--back); margin: 0 auto;
  max-width: 70rem; padding: 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: .5rem 0; } h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; } h3 { font-size: 1rem; }
p { max-width: 48rem; margin: .5rem 0; } a { color: var(--accent); }
.verdict { font-size: 1.2rem; line-height: 1.4; border-left: .3rem solid var(--accent); padding-left: .8rem; }
.soft, .hint, details p { color: var(--soft); font-size: .9rem; }
nav { font-size: .9rem; display: flex; flex-wrap: wrap; gap: .3rem 1rem; margin: 1rem 0; }
.chart { width: 100%; } .chart .vega-embed { width: 100%; display: block; padding: 0; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); gap: 1rem 1.5rem; }
#where-charts { grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); }
.grid > div { min-width: 0; } .grid h3 { margin: .3rem 0; }
.key { list-style: none; display: flex; flex-wrap: wrap; gap: .25rem 1rem; padding: 0; margin: .5rem 0;
  font-size: .9rem; }
.key li { display: flex; align-items: center; gap: .35rem; min-width: 0; } .key svg { flex: none; }
.swatch { padding: 0 .5rem; border: 1px solid var(--line); border-radius: .2rem; }
.wide { overflow-x: auto; max-width: 100%; } summary { cursor: pointer; color: var(--accent); font-size: .9rem; }
table { border-collapse: collapse; font-size: .85rem; margin: .5rem 0; }
th, td { border-bottom: 1px solid var(--line); padding: .25rem .6rem; text-align: left; vertical-align: top;
  overflow-wrap: normal; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.samples td { min-width: 14rem; } .neighbours td { min-width: 9rem; }
button, select { font: inherit; font-size: .9rem; color: var(--text); background: var(--panel);
  border: 1px solid var(--soft); border-radius: .3rem; padding: .3rem .7rem; max-width: 100%; }
select { width: 100%; } #temperature { width: auto; }
button:focus-visible, select:focus-visible, summary:focus-visible, [tabindex]:focus-visible, a:focus-visible {
  outline: 3px solid var(--accent); outline-offset: 1px; }
.buttons { display: flex; flex-wrap: wrap; gap: .4rem; align-items: center; max-width: none; }
.buttons label { flex: 0 1 40rem; display: flex; gap: .5rem; align-items: center; min-width: 0;
  overflow-wrap: normal; }
#samples .buttons label { flex: none; }
.reading { margin: .8rem 0; } .reading .who { font-size: .85rem; color: var(--soft); }
.reading .who b { color: var(--text); } .reading .text { line-height: 2; }
.word { padding: .12rem .15rem; border-radius: .2rem; cursor: default; } .word.unknown { font-style: italic; }
.word { unicode-bidi: isolate; }
.word.chosen { outline: 2px solid var(--accent); } .joined .word { padding: .12rem .05rem; }
SURPRISE_CLASSES
#expected { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 13rem), 1fr)); gap: .7rem;
  background: var(--panel); border-radius: .4rem; padding: .7rem; margin-top: 1rem; min-height: 13rem;
  font-size: .85rem; }
#expected h3 { margin: 0; } #expected .title { grid-column: 1 / -1; }
#expected ol { list-style: none; padding: 0; margin: .3rem 0; }
#expected li { display: grid; grid-template-columns: minmax(0, 1fr) 3.4rem; column-gap: .4rem; }
#expected .bar { grid-column: 1 / -1; height: .25rem; background: var(--line); }
#expected .bar span { display: block; height: 100%; background: var(--accent); }
#expected .right { font-weight: bold; } #expected .share { text-align: right; font-variant-numeric: tabular-nums; }
pre { background: var(--panel); padding: .7rem; overflow-x: auto; font-size: .85rem; }
footer dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .1rem 1rem; font-size: .85rem; }
footer dd { margin: 0; font-family: monospace; overflow-wrap: anywhere; }
@media (max-width: 40rem) { body { font-size: 15px; padding: .7rem; } footer dl { grid-template-columns: 1fr; }
  footer dt { font-weight: bold; } }
@media print { nav, .buttons button, .hint { display: none; } body { max-width: none; }
  .wide { overflow: visible; } td, th, .samples td, .neighbours td { min-width: 0; overflow-wrap: anywhere; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } .chart { break-inside: avoid-page; } }
"""


def page(title: str, verdict: list[str], data: Mapping[str, Any], surprise: Mapping[str, Any]) -> str:
    """A whole page, the same text for the same arguments.

    Args:
        title: its heading.
        verdict: paragraphs below that, the first set out.
        data: what the script shows; a section appears where its key is there.
        surprise: `limits` in bits, and for `light` and `dark` one pair more of colours, back and text.
    """
    sections = [(key, heading, body) for key, heading, body in SECTIONS if key in data]
    links = "".join(f"<a href='#{key}'>{heading}</a>" for key, heading, _ in sections)
    bodies = "".join(
        f"<section id='{key}' aria-labelledby='{key}-heading'><h2 id='{key}-heading'>{heading}</h2>{body}</section>\n"
        for key, heading, body in sections
    )
    paragraphs = "".join(
        f"<p{' class=verdict' if number == 0 else ''}>{html.escape(text)}</p>\n" for number, text in enumerate(verdict)
    )
    scripts = (vega_scripts(), SCRIPT)
    digests = (hashlib.sha256(one.encode()).digest() for one in scripts)
    allowed = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    policy = f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; base-uri 'none'"
    foot = data.get("foot", {})
    commands = html.escape("\n".join(foot.get("commands", ())))
    return (
        "<!DOCTYPE html>\n<html lang='en'>\n<head>\n<meta charset='utf-8'>\n"
        f'<meta http-equiv="Content-Security-Policy" content="{policy}; form-action \'none\'">\n'
        "<meta name='viewport' content='width=device-width, initial-scale=1'>\n"
        f"<title>{html.escape(title)}</title>\n<style>{_style(surprise)}</style>\n</head>\n<body>\n"
        f"<header><h1>{html.escape(title)}</h1>\n{paragraphs}</header>\n<nav aria-label='Sections'>{links}</nav>\n"
        "<noscript><p><b>The figures need JavaScript, which is off here.</b></p></noscript>\n"
        f"<main>\n{bodies}</main>\n<footer><h2>How this page was made</h2>\n"
        f"{f'<pre>{commands}</pre>' if commands else ''}{definitions(foot.get('hashes', {}))}{FOOT}</footer>\n"
        f"<script type='application/json' id='data'>{_as_json(data)}</script>\n"
        f"{''.join(f'<script>{one}</script>' for one in scripts)}\n</body>\n</html>\n"
    )


def told_of(page_text: str, about: Mapping[str, str]) -> str:
    """A copy of a page that says at its foot what it must not say where its bytes have to be the same: commit, run."""
    return page_text.replace(FOOT, definitions(about), 1)


def definitions(terms: Mapping[str, str]) -> str:
    """Names and what they are, as HTML."""
    pairs = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>" for name, value in terms.items())
    return f"<dl>{pairs}</dl>\n" if pairs else ""


@cache
def vega_scripts() -> str:
    """Vega, Vega-Lite and Vega-Embed, as the package vl-convert-python carries them; it takes two seconds."""
    import vl_convert

    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")


def _as_json(data: Mapping[str, Any]) -> str:
    """JSON in which nothing could end the element around it."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _style(surprise: Mapping[str, Any]) -> str:
    style = STYLE
    for theme in ("light", "dark"):
        pairs = enumerate(surprise[theme])
        colours = " ".join(f"--s{step}: {back}; --t{step}: {text};" for step, (back, text) in pairs)
        style = style.replace(f"SURPRISE_{theme.upper()}", colours)
    steps = range(len(surprise["limits"]) + 1)
    classes = "\n".join(f".s{step} {{ background: var(--s{step}); color: var(--t{step}); }}" for step in steps)
    return style.replace("SURPRISE_CLASSES", classes)
