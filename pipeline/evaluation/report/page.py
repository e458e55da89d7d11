"""The report's page: one HTML file without scripts and without anything from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from lakevec.pipeline.evaluation.report.style import STYLE


def make_page(title: str, body: Sequence[str]) -> str:
    """Put sections into a page.

    Parameters
    ----------
    title : str
    body : sequence of str
        HTML.

    Returns
    -------
    str
        HTML, well-formed as XML too.
    """
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8"/>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(body)
        + "\n</main>\n</body>\n</html>\n"
    )


def make_table(
    caption: str,
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    kinds: Sequence[str] = (),
    has_words: bool = False,
) -> str:
    """Make a table whose first column names the rows.

    Parameters
    ----------
    caption : str
    head : sequence of str
        Names of the columns.
    rows : sequence of sequence of str
        Cells; one that ends with a star is the best of its column.
    kinds : sequence of str, optional
        A class for each row: ``average``, ``apart`` or nothing.
    has_words : bool, default=False
        Whether the second column holds words too, and no figures.

    Returns
    -------
    str
        HTML.
    """
    columns = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    lines = []
    for place, row in enumerate(rows):
        kind = kinds[place] if kinds else ""
        opening = f'<tr class="{kind}">' if kind else "<tr>"
        cells = "".join(_cell(cell) for cell in row[1:])
        lines.append(f'{opening}<th scope="row">{escape(row[0])}</th>{cells}</tr>')
    style = ' class="left"' if has_words else ""
    return scrolled(
        f"<table{style}><caption>{escape(caption)}</caption><thead><tr>{columns}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table>",
        caption,
    )


def make_figure(svg: str, caption: str) -> str:
    """Put a caption under a figure.

    Parameters
    ----------
    svg : str
    caption : str

    Returns
    -------
    str
        HTML.
    """
    shown = scrolled(svg, "figure: " + caption)
    return f"<figure>{shown}<figcaption>{escape(caption)}</figcaption></figure>"


def scrolled(content: str, label: str) -> str:
    """Let what is wider than the screen be scrolled, by keyboard too.

    Parameters
    ----------
    content : str
        HTML.
    label : str
        What screen readers call it.

    Returns
    -------
    str
        HTML.
    """
    return f'<div class="wide" role="region" tabindex="0" aria-label="{escape(label)}">{content}</div>'


def paragraph(text: str, kind: str = "") -> str:
    """Make a paragraph of plain text.

    Parameters
    ----------
    text : str
    kind : str, default=""
        Its class.

    Returns
    -------
    str
        HTML.
    """
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def heading(text: str) -> str:
    """Make a section's heading.

    Parameters
    ----------
    text : str

    Returns
    -------
    str
        HTML.
    """
    return f"<h2>{escape(text)}</h2>"


def _cell(cell: str) -> str:
    is_best = cell.endswith("*")
    return f'<td class="best">{escape(cell[:-1])}</td>' if is_best else f"<td>{escape(cell)}</td>"
