"""A page of HTML in one file: no scripts, nothing loaded from elsewhere, light or dark as the reader's system is."""

import base64
from collections.abc import Sequence
from html import escape

__all__ = ["columns", "details", "page", "paragraph", "picture", "player", "section", "table"]

CSS = """
:root { color-scheme: light dark; --ink: #1f2328; --soft: #59636e; --line: #d8dee4; --paper: #ffffff; --card: #f6f8fa;
  --link: #0a62b0; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8ea; --soft: #9aa4ae; --line: #343b43; --paper: #14171a;
  --card: #1c2126; --link: #79b8ff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 54rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .25rem; }
h2 { font-size: 1.25rem; margin: 2.75rem 0 .75rem; padding-top: 1.25rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.5rem 0 0; } p { margin: .5rem 0; }
.soft, figcaption { color: var(--soft); font-size: .9rem; } a { color: var(--link); }
table { border-collapse: collapse; margin: .75rem 0; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem 1.5rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 600; font-size: .85rem; color: var(--soft); } .first td { font-weight: 600; }
td:nth-child(2), .numbers td { white-space: nowrap; }
td.number, th.number { text-align: right; white-space: nowrap; padding: .3rem 0 .3rem 1.5rem; }
.scroll { overflow-x: auto; }
code { font: .88em ui-monospace, Menlo, Consolas, monospace; overflow-wrap: anywhere; white-space: normal; }
figure { margin: 1rem 0; } figure svg, figure img { max-width: 100%; height: auto; display: block; }
figure img { image-rendering: pixelated; border-radius: 4px; } figure img.smooth { image-rendering: auto; }
figure svg text { font-family: inherit !important; } figure svg image { image-rendering: pixelated; }
figcaption { margin-top: .4rem; }
.columns { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(22rem, 100%), 1fr)); gap: 0 1.5rem; }
audio { width: 100%; height: 2.25rem; display: block; margin-top: .25rem; }
"""


def page(title: str, lead: str, sections: Sequence[str], foot: str) -> str:
    """Return a whole page.

    Args:
        title: plain text.
        lead: HTML below it.
        sections: HTML, empty ones are left out.
        foot: plain text at the end.
    """
    body = "\n".join(filter(None, sections))
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<style>{CSS}</style>\n</head>\n'
        f'<body>\n<h1>{escape(title)}</h1>\n{lead}\n{body}\n<p class="soft">{escape(foot)}</p>\n</body>\n</html>\n'
    )


def section(title: str, *parts: str) -> str:
    """Return a section of HTML parts under a title, or nothing where there are none."""
    inside = "\n".join(filter(None, parts))
    return f"<section>\n<h2>{escape(title)}</h2>\n{inside}\n</section>" if inside else ""


def paragraph(text: str, soft: bool = False) -> str:
    """Return plain text as a paragraph."""
    return f"<p{classed('soft', soft)}>{escape(text)}</p>"


def classed(name: str, whether: bool = True) -> str:
    """Return the attribute that gives an element a class, or nothing."""
    return f' class="{name}"' if whether else ""


def table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] = (), first: bool = False) -> str:
    """Return a table of plain text.

    Args:
        head: names of the columns; none makes it a table without a head.
        rows: of cells.
        numbers: columns that are aligned as numbers.
        first: whether the first row is the one that matters.
    """

    def line(tag: str, cells: Sequence[str]) -> str:
        kinds = (classed("number", i in numbers) for i in range(len(cells)))
        return "".join(f"<{tag}{k}>{escape(cell)}</{tag}>" for k, cell in zip(kinds, cells, strict=True))

    top = f"<thead><tr>{line('th', head)}</tr></thead>" if head else ""
    body = "".join(f"<tr{classed('first', first and i == 0)}>{line('td', row)}</tr>" for i, row in enumerate(rows))
    return f'<div class="scroll"><table{classed("numbers", bool(numbers))}>{top}<tbody>{body}</tbody></table></div>'


def picture(content: bytes | str, caption: str, alt: str, smooth: bool = False) -> str:
    """Return a figure: the content of a PNG file, or an <svg> element.

    Args:
        content: bytes of a PNG file, or SVG.
        caption: plain text below it.
        alt: what it shows, for those who do not see it.
        smooth: whether a browser may smooth it where it scales; pixels stay sharp otherwise.
    """
    inner = content
    if isinstance(content, bytes):
        data = base64.b64encode(content).decode()
        inner = f'<img{classed("smooth", smooth)} src="data:image/png;base64,{data}" alt="{escape(alt)}">'
    else:
        inner = content.replace("<svg", f'<svg role="img" aria-label="{escape(alt)}"', 1)
    return f"<figure>{inner}<figcaption>{escape(caption)}</figcaption></figure>"


def player(content: bytes, drawing: str, caption: str, alt: str) -> str:
    """Return a figure of sound that can be heard.

    Args:
        content: of a WAV file.
        drawing: an <svg> element above.
        caption: plain text below.
        alt: what the drawing shows, for those who do not see it.
    """
    data = base64.b64encode(content).decode()
    sound = f'<audio controls preload="metadata" src="data:audio/wav;base64,{data}"></audio>'
    return picture(drawing, caption, alt).replace("<figcaption>", f"{sound}<figcaption>", 1)


def columns(parts: Sequence[str]) -> str:
    """Return parts side by side, as many as have room."""
    return f'<div class="columns">\n{"".join(parts)}\n</div>'


def details(rows: Sequence[tuple[str, str]]) -> str:
    """Return names and values as a table whose values are set as code."""
    body = "".join(f"<tr><th>{escape(name)}</th><td><code>{escape(value)}</code></td></tr>" for name, value in rows)
    return f'<div class="scroll"><table><tbody>{body}</tbody></table></div>'
