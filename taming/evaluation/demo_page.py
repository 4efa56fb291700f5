"""What a demo leaves to look at: a page with everything side by side, and one sheet.

The page needs nothing but the pictures beside it: no scripts, no fonts, no network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from taming.checkpoint import atomic_write
from taming.evaluation.demo_tasks import Painted, Task
from taming.evaluation.page import STYLE, image_tag
from taming.provenance import save_png

TILE = 128  # pixels along a side of a picture on the sheet
GAP, ROW_GAP = 4, 14
PAPER, INK, FAINT = (250, 248, 243), (36, 34, 40), (140, 134, 128)
SHEET_EXAMPLES = 2  # of each task on the sheet

Paintings = Mapping[Task, Sequence[Painted]]


@dataclass(frozen=True)
class About:
    """What the page says of the model and of how it was made."""

    title: str
    lead: str  # a sentence under the headline
    facts: Sequence[tuple[str, str]]  # a time or a number, and what it is of
    text: Sequence[str]  # paragraphs; HTML
    model: str  # what `taming.load` is given to have it
    psnr: float | None = None  # dB, of held-out reconstructions


# ---- sheet --------------------------------------------------------------------------------------


def write_sheet(painted: Paintings, path: Path) -> Path:
    """One PNG: for each task two examples of condition, samples, truth."""
    most = max(len(example.samples) for examples in painted.values() for example in examples)
    columns = 2 + most
    block = columns * (TILE + GAP) + 2 * GAP  # a little air around the samples
    margin, head, label = 24, 40, 24
    row = label + TILE + ROW_GAP
    width = 2 * margin + SHEET_EXAMPLES * block + margin
    sheet = Image.new("RGB", (width, head + len(painted) * row + margin), PAPER)
    draw = ImageDraw.Draw(sheet)
    font, small = ImageFont.load_default(16), ImageFont.load_default(12)
    lefts = [margin + number * (block + margin) for number in range(SHEET_EXAMPLES)]
    for left in lefts:
        places = [0, TILE + 2 * GAP, (1 + most) * (TILE + GAP) + 2 * GAP]
        for place, word in zip(places, ("given", "samples", "truth"), strict=True):
            draw.text((left + place, head - 24), word, fill=FAINT, font=small)
    for number, (task, examples) in enumerate(painted.items()):
        top = head + number * row
        draw.text((margin, top), task.title, fill=INK, font=font)
        for left, example in zip(lefts, examples, strict=False):
            x = left
            given = _side_by_side(example.shown)
            room = most * (TILE + GAP) - GAP if task.is_wide else TILE
            for picture, wide, after in (
                (given, TILE, 2 * GAP),
                *((sample, room, GAP) for sample in example.samples[:-1]),
                (example.samples[-1], room, 2 * GAP),
                (example.truth, TILE, 0),
            ):
                if picture is not None:
                    tile = picture.convert("RGB").resize((wide, TILE), _enlargement(picture))
                    sheet.paste(tile, (x, top + label))
                x += wide + after
    with atomic_write(path) as partial:
        sheet.save(partial, format="PNG", optimize=True)
    return path


def _side_by_side(pictures: Sequence[Image.Image]) -> Image.Image:
    """One picture as it is; several as strips of a square, so that all conditions are seen."""
    if len(pictures) == 1:
        return pictures[0]
    side = 2 * TILE
    square = Image.new("RGB", (side, side), PAPER)
    high = side // len(pictures)
    for number, picture in enumerate(pictures):
        fitted = picture.convert("RGB").resize((high, high), _enlargement(picture))
        square.paste(fitted, ((side - high) // 2, number * high))
    return square


def _enlargement(picture: Image.Image) -> Image.Resampling:
    """Smooth for pictures; flat colours stay flat."""
    colours = picture.convert("RGB").getcolors(64)
    return Image.Resampling.BICUBIC if colours is None else Image.Resampling.NEAREST


# ---- page ---------------------------------------------------------------------------------------


def write_page(
    painted: Paintings,
    reconstructions: Sequence[tuple[Image.Image, Image.Image]],  # truth, reconstruction
    about: About,
    out: Path,
) -> Path:
    """`index.html` in `out`, with its pictures in `out/images`."""
    images = out / "images"
    images.mkdir(parents=True, exist_ok=True)
    sections = [_section(task, examples, images) for task, examples in painted.items()]
    page = _PAGE.format(
        style=_STYLE,
        title=escape(about.title),
        lead=escape(about.lead),
        facts="".join(f"<dt>{escape(much)}</dt><dd>{escape(of)}</dd>" for much, of in about.facts),
        text="".join(f"<p>{paragraph}</p>" for paragraph in about.text),
        reconstructions=_reconstructions(reconstructions, images, about.psnr),
        sections="\n".join(sections),
        model=escape(about.model),
    )
    path = out / "index.html"
    with atomic_write(path) as partial:
        partial.write_text(page, encoding="utf-8")
    return path


def _section(task: Task, examples: Sequence[Painted], images: Path) -> str:
    rows = "\n".join(_row(task, number, each, images) for number, each in enumerate(examples))
    return f"""<section id="{task.name}">
<h2>{escape(task.title)}</h2>
<p>{escape(task.given)} <code>{escape(task.call)}</code></p>
{rows}
</section>"""


def _row(task: Task, number: int, example: Painted, images: Path) -> str:
    def saved(picture: Image.Image, name: str) -> str:
        return f"images/{save_png(picture, images / f'{task.name}_{number}_{name}.png').name}"

    given = ""
    for place, picture in enumerate(example.shown):
        is_words = example.words and place == len(example.shown) - 1
        if is_words:
            given += f'<p class="words">{escape(example.words)}</p>'
        else:
            flat = _enlargement(picture) is Image.Resampling.NEAREST
            source = saved(picture, f"given{place or ''}")
            given += image_tag(source, f"given: {task.name}", "flat" if flat else "")
    samples = "".join(
        image_tag(saved(sample, f"seed{seed}"), f"sample, seed {seed}")
        for seed, sample in enumerate(example.samples)
    )
    last = len(example.samples) - 1
    captions = ("given", f"seeds 0 to {last}" if last else "seed 0", task.truth)
    words = [f"<figcaption>{escape(c)}</figcaption>" if number == 0 else "" for c in captions]
    truth = ""
    if example.truth is not None:
        picture = image_tag(saved(example.truth, "truth"), task.truth)
        truth = f'<figure class="truth">{picture}{words[2]}</figure>'
    return f"""<div class="row" style="--n: {len(example.samples)}">
<figure class="given">{given}{words[0]}</figure>
<figure class="samples"><div>{samples}</div>{words[1]}</figure>
{truth}
</div>"""


def _reconstructions(
    pairs: Sequence[tuple[Image.Image, Image.Image]], images: Path, psnr: float | None
) -> str:
    figures = ""
    for number, (truth, back) in enumerate(pairs):
        for name, picture in (("truth", truth), ("back", back)):
            save_png(picture, images / f"codes_{number}_{name}.png")
        figures += (
            f"<figure>{image_tag(f'images/codes_{number}_truth.png', 'held-out picture')}"
            f"{image_tag(f'images/codes_{number}_back.png', 'the same through the codes')}</figure>"
        )
    quality = "" if psnr is None else f" ({psnr:.1f} dB PSNR)"
    return f"""<p>Held-out pictures, and below each what is left of it after the codebook{quality}.
Nothing painted on this page can be sharper than that.</p>
<div class="pairs">{figures}</div>"""


_STYLE = (
    STYLE
    + """
section p code { display: block; overflow-x: auto; white-space: nowrap; }
.row {
  display: grid; gap: 1.25rem; margin: 0 0 1.25rem;
  grid-template-columns: minmax(0, 1fr) minmax(0, 4fr) minmax(0, 1fr);
}
.samples > div { display: grid; gap: .375rem; }
.samples > div { grid-template-columns: repeat(var(--n), minmax(0, 1fr)); }
.given .words { margin: 0; font-style: italic; font-size: 1rem; line-height: 1.35; hyphens: auto; }
.given img + .words, .given img + img { margin-top: .5rem; }
.pairs { display: grid; grid-template-columns: repeat(8, minmax(0, 1fr)); gap: .75rem; }
.pairs img + img { margin-top: .375rem; }
footer { margin-top: 5rem; border-top: 1px solid var(--line); padding-top: 1rem; }
@media (max-width: 44rem) {
  body { padding-top: 2rem; }
  .row { grid-template-columns: 1fr 1fr; }
  .samples { grid-row: 2; grid-column: 1 / -1; }
  .pairs { grid-template-columns: repeat(4, minmax(0, 1fr)); }
}
"""
)

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>taming: {title}</title>
<style>{style}</style>
</head>
<body>
<header>
<h1>{title}</h1>
<p class="lead">{lead}</p>
<dl>{facts}</dl>
{text}
</header>
<section id="codes">
<h2>Pictures as codes</h2>
{reconstructions}
</section>
{sections}
<footer><p>Every sample is a PNG that knows its seed, settings and conditions:
<code>taming.load("{model}").repaint("images/depth_0_seed0.png")</code> paints it again, bit for
bit. All of them on one sheet: <a href="grid.png">grid.png</a>.</p></footer>
</body>
</html>
"""
