"""A page with the numbers of an evaluation, its best, median and worst pictures, and the first.

It needs nothing but the pictures beside it: no scripts, no fonts, no network. `STYLE` is that of
every page of this project.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any

from taming.evaluation.report import COLUMNS, Row, cell, verdict, write_json, write_text

IMAGES = "report_images"  # a run, and a set of pictures, have a folder `images` of their own
LIST = "list.json"  # of what a report has put there


def write_page(
    title: str,
    facts: Mapping[str, Any],
    rows: Sequence[Row],
    shown: Sequence[Mapping[str, Any]],  # of stages.Answers
    notes: Sequence[str],
    album: Path,  # where the pictures lie
    out: Path,
) -> Path:
    """`index.html` in `out`, with copies of its pictures in `out/report_images`."""
    copies = _copies(shown, album)
    _put_away(copies, out / IMAGES)
    page = _PAGE.format(
        title=escape(title),
        style=STYLE + _OWN,
        facts="".join(f"<dt>{escape(k)}</dt><dd>{escape(str(v))}</dd>" for k, v in facts.items()),
        table=_table(rows),
        pictures="\n".join(_sections(shown)),
        notes=_notes(notes),
    )
    path = out / "index.html"
    write_text(page, path)
    return path


def _table(rows: Sequence[Row]) -> str:
    head = "".join(f"<th>{column}</th>" for column in COLUMNS)
    lines = []
    for row in rows:
        numbers = "".join(f"<td>{cell(getattr(row, column))}</td>" for column in COLUMNS)
        kind = {None: "", True: ' class="met"', False: ' class="missed"'}[row.met]
        reach = escape(verdict(row))
        lines.append(f"<tr{kind}><th>{escape(row.name)}</th>{numbers}<td>{reach}</td></tr>")
    body = "\n".join(lines)
    return f"<table><tr><th></th>{head}<th>reach</th></tr>\n{body}</table>"


def _copies(shown: Sequence[Mapping[str, Any]], album: Path) -> dict[str, Path]:
    """What each copy is called, and what it is a copy of."""
    return {
        _copy_of(each, place): album / path
        for each in shown
        for place, (_, path) in enumerate(each["pictures"])
    }


def _copy_of(each: Mapping[str, Any], place: int) -> str:
    """Names that look alike in plain letters (`my-set`, `my_set`) have other marks."""
    told = f"{each['set']} {each['task']}"
    mark = hashlib.sha256(told.encode()).hexdigest()[:6]
    return f"{_plain(told)}_{mark}_{each['word']}_{place}.png"


def _put_away(copies: Mapping[str, Path], images: Path) -> None:
    """Copies in place of those of an earlier report; whatever else lies there is not ours."""
    images.mkdir(parents=True, exist_ok=True)
    told = images / LIST
    earlier = json.loads(told.read_text(encoding="utf-8"))["pictures"] if told.is_file() else []
    for name in earlier:
        (images / Path(name).name).unlink(missing_ok=True)
    write_json({"pictures": list(copies)}, told)  # first: a report that is stopped has it, too
    for name, source in copies.items():
        shutil.copyfile(source, images / name)


def _sections(shown: Sequence[Mapping[str, Any]]) -> list[str]:
    sections = []
    for (name, task), group in groupby(shown, key=lambda each: (each["set"], each["task"])):
        lines = []
        for each in group:
            figures = ""
            for place, (title, _) in enumerate(each["pictures"]):
                words = f"{title}, {each['word']} of {task}"
                tag = image_tag(f"{IMAGES}/{_copy_of(each, place)}", words)
                figures += f"<figure>{tag}<figcaption>{escape(title)}</figcaption></figure>"
            told = f"{each['word']}: {each['name']}"
            kind = "line" if len(each["pictures"]) > 1 else "sheet"
            lines.append(f'<h3>{escape(told)}</h3><div class="{kind}">{figures}</div>')
        heading = escape(f"{task}, {name}")
        sections.append(f"<section><h2>{heading}</h2>{''.join(lines)}</section>")
    return sections


def _plain(text: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in text)


def _notes(notes: Sequence[str]) -> str:
    if not notes:
        return ""
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return f"<section><h2>Notes</h2><ul>{items}</ul></section>"


def image_tag(source: str, words: str, kind: str = "") -> str:
    marked = f' class="{kind}"' if kind else ""
    return f'<img{marked} src="{escape(source)}" alt="{escape(words)}" loading="lazy">'


STYLE = """
:root { --paper: #faf8f3; --ink: #24222a; --faint: #8a847d; --line: #e2ddd3; --accent: #2f6f73; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #191a1d; --ink: #e9e5dc; --faint: #938d84; --line: #303136; --accent: #7fc0bd; }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 4rem 1.5rem 6rem; max-width: 66rem;
  background: var(--paper); color: var(--ink); text-rendering: optimizeLegibility;
  font: 1.0625rem/1.6 "Iowan Old Style", "Palatino Linotype", Palatino, Georgia, serif;
}
h1 { font-size: 2.5rem; line-height: 1.15; font-weight: 500; margin: 0 0 .5rem; }
h2 { font-size: 1.5rem; font-weight: 500; margin: 4rem 0 .25rem; }
p { max-width: 42rem; margin: 0 0 1rem; }
.lead { font-size: 1.25rem; color: var(--faint); }
code {
  font: .8125rem/1.5 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
  color: var(--accent);
}
dl { display: grid; grid-template-columns: max-content 1fr; gap: .125rem 1rem; }
dl { margin: 2rem 0 .5rem; }
dt { font-variant-numeric: tabular-nums; text-align: right; }
dd { margin: 0; color: var(--faint); }
figure { margin: 0; }
figcaption { font-size: .875rem; color: var(--faint); font-style: italic; padding-top: .375rem; }
img { display: block; width: 100%; aspect-ratio: 1; border-radius: 2px; background: var(--line); }
img.flat { image-rendering: pixelated; }
"""

_OWN = """
img { aspect-ratio: auto; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
td, th { padding: .125rem .75rem .125rem 0; text-align: right; font-weight: 400; }
tr > :first-child, td:last-child { text-align: left; }
tr { border-bottom: 1px solid var(--line); }
.met td:last-child { color: var(--accent); }
.missed { font-weight: 600; }
h3 { font-size: 1rem; font-weight: 400; color: var(--faint); margin: 1rem 0 .25rem; }
.line { display: grid; gap: .75rem; grid-template-columns: repeat(6, minmax(0, 1fr)); }
"""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header><h1>{title}</h1><dl>{facts}</dl></header>
<section><h2>Numbers</h2>{table}</section>
{pictures}
{notes}
</body>
</html>
"""
