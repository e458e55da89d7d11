"""The report's style sheet: light, dark and on paper, without fonts or pictures from elsewhere."""

from __future__ import annotations

_LIGHT = """
  --ground: #fff; --ink: #1c2126; --soft: #5b6670; --line: #d8dee3; --shade: #f4f6f8;
  --c0: #1b6ca8; --c1: #c2571a; --c2: #2b8a57; --c3: #8a4fb0;
  --c4: #b3284f; --c5: #80700c; --c6: #19808a; --c7: #6b6f76;
"""
_DARK = """
  --ground: #14181c; --ink: #e6eaee; --soft: #9aa6b1; --line: #36404a; --shade: #1d2329;
  --c0: #62b0ea; --c1: #f0955a; --c2: #63cf95; --c3: #c796ea;
  --c4: #f07f9f; --c5: #d8c24a; --c6: #5fcbd6; --c7: #a9b0b8;
"""
_RULES = """
body { margin: 0 auto; max-width: 64rem; padding: 1.5rem 1rem 4rem;
  background: var(--ground); color: var(--ink); overflow-wrap: break-word;
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .5rem; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; }
p { max-width: 46rem; }
.soft, caption, figcaption, .note { color: var(--soft); }
.note { font-size: .92rem; margin: .25rem 0; }
.wide { overflow-x: auto; margin: .75rem 0 1.25rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem; }
caption { caption-side: top; text-align: left; padding-bottom: .35rem; }
th, td { padding: .28rem .55rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
th[scope=row], th[scope=col]:first-child { text-align: left; font-weight: 500; }
th[scope=col] { font-weight: 600; vertical-align: bottom; white-space: normal; border-bottom-width: 2px; }
tbody tr:nth-child(even) { background: var(--shade); }
th[scope=row] { position: sticky; left: 0; background: var(--ground); }
tbody tr:nth-child(even) th { background: var(--shade); }
.left td:nth-child(2), .left th:nth-child(2) { text-align: left; }
tr.average > * { font-weight: 700; border-top: 2px solid var(--line); }
tr.apart > * { color: var(--soft); }
td.best { font-weight: 700; }
td.best::after { content: "*"; }
td:not(.best)::after { content: "*"; visibility: hidden; }
figure { margin: .75rem 0 1.25rem; }
figure .wide { margin: 0; }
figcaption { font-size: .92rem; max-width: 46rem; }
svg { display: block; width: 100%; min-width: 34rem; max-width: 45rem; height: auto; font-size: 12px; }
svg text { fill: var(--ink); }
svg .head { font-weight: 600; font-size: 13px; }
svg .label { font-weight: 600; }
svg .grid { stroke: var(--line); }
svg .zero { stroke: var(--ink); }
svg circle { fill-opacity: .55; }
svg .dot { fill-opacity: 1; }
svg .span { stroke-width: 2.5; }
"""
_PRINT = """
@media print {
  figure, table { break-inside: avoid; }
  h2 { break-after: avoid; }
  .wide { overflow: visible; }
}
"""
_COLOURS = "".join(
    f"svg .c{place} {{ fill: var(--c{place}); stroke: var(--c{place}); }}\n" for place in range(8)
)
STYLE = (
    f":root {{ color-scheme: light dark; {_LIGHT}}}\n"
    f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {_DARK}}} }}\n"
    f"{_RULES}{_COLOURS}{_PRINT}"
)
