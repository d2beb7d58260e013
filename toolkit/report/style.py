"""How the page looks: two palettes and one style sheet, for screens of any width and for paper."""

LIGHT = {
    "ground": "#fbfbf9",
    "surface": "#ffffff",
    "ink": "#1c2127",
    "quiet": "#59636e",
    "line": "#dcdfe3",
    "accent": "#1f5fa8",
    "good": "#1b7135",
    "noticeable": "#875400",
    "bad": "#b3261e",
    "bar-1": "#1f5fa8",
    "bar-2": "#5f9bd8",
    "bar-3": "#a9c9ea",
    "track": "#eceef1",
}
DARK = {
    "ground": "#11151a",
    "surface": "#181e25",
    "ink": "#e7eaee",
    "quiet": "#a0abb7",
    "line": "#303945",
    "accent": "#7db8f7",
    "good": "#5cc97c",
    "noticeable": "#e2ad3f",
    "bad": "#ff8a80",
    "bar-1": "#7db8f7",
    "bar-2": "#4a83bf",
    "bar-3": "#305a87",
    "track": "#252d37",
}
READ_ON = ("ground", "surface")
"""what text lies on"""
READ = ("ink", "quiet", "accent", "good", "noticeable", "bad")
"""colours of text"""


def _variables(palette: dict[str, str]) -> str:
    return " ".join(f"--{name}: {value};" for name, value in palette.items())


STYLE = (
    f":root {{ color-scheme: light dark; {_variables(LIGHT)} }}\n"
    f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {_variables(DARK)} }} }}\n"
    + """
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); overflow-wrap: break-word;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  font-variant-numeric: tabular-nums; -webkit-text-size-adjust: 100%; }
main { max-width: 68rem; margin: 0 auto; padding: 3rem 1.5rem 4rem; }
h1, h2, p, dl, dd, ol, ul, figure { margin: 0; padding: 0; }
h1 { font-size: 1rem; font-weight: 600; color: var(--quiet); }
h2 { font-size: 1.25rem; line-height: 1.3; font-weight: 650; margin-bottom: .25rem; }
a { color: var(--accent); text-underline-offset: .15em; }
.lead { font-size: clamp(1.4rem, 1.1rem + 1.6vw, 2.1rem); line-height: 1.22; font-weight: 680; letter-spacing: -.012em;
  margin: .5rem 0 .75rem; max-width: 24em; text-wrap: balance; }
.quiet, .note { color: var(--quiet); }
.note { font-size: .875rem; max-width: 46rem; }
section { margin-top: 3.25rem; }
section > .note { margin-bottom: 1.1rem; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(8rem, 1fr)); gap: 1rem 2rem; margin-top: 1.75rem;
  padding-top: 1.25rem; border-top: 1px solid var(--line); }
.facts dt { font-size: .8125rem; color: var(--quiet); }
.facts dd { font-size: 1.375rem; font-weight: 600; line-height: 1.3; }
.facts small { display: block; font-size: .8125rem; font-weight: 400; color: var(--quiet); }

table { width: 100%; border-collapse: collapse; font-size: .875rem; line-height: 1.35; }
caption { text-align: left; }
th, td { padding: .6rem .5rem; text-align: right; vertical-align: baseline; border-bottom: 1px solid var(--line); }
thead th { font-weight: 500; color: var(--quiet); font-size: .8125rem; vertical-align: bottom; }
th:first-child, td.words, thead th.words { text-align: left; }
th:first-child { padding-left: 0; } tr > :last-child { padding-right: 0; }
tbody th { font-weight: 600; }
td small, th small { display: block; font-weight: 400; font-size: .75rem; color: var(--quiet); white-space: nowrap; }
td { white-space: nowrap; } td.wrap { white-space: normal; }
tbody th { overflow-wrap: anywhere; min-width: 6.5rem; }
tr.advised > * { background: color-mix(in srgb, var(--accent) 9%, var(--ground)); }
tr.advised > :first-child { box-shadow: -.75rem 0 0 color-mix(in srgb, var(--accent) 9%, var(--ground)), -.9rem 0 0 var(--accent); }
.level { font-weight: 600; white-space: nowrap; }
.good { color: var(--good); } .noticeable { color: var(--noticeable); } .bad { color: var(--bad); }
.unknown { color: var(--quiet); font-weight: 400; }

figure svg { display: block; width: 100%; height: auto; overflow: visible; }
figcaption { margin-top: .5rem; }
.narrow { display: none; }
svg text { fill: var(--ink); font-family: inherit; }
svg .axis text { fill: var(--quiet); } svg .axis line { stroke: var(--line); }
svg .limit line { stroke: var(--quiet); stroke-dasharray: 3 4; opacity: .7; } svg .limit text { fill: var(--quiet); }
svg .front { fill: none; stroke: var(--accent); stroke-width: 1.75; opacity: .55; }
svg .point { fill: var(--ground); stroke: var(--quiet); stroke-width: 1.75; }
svg .point.on { fill: var(--accent); stroke: var(--ground); stroke-width: 1.5; }
svg .ring { fill: none; stroke: var(--accent); stroke-width: 1.75; }
svg .error { stroke: var(--quiet); } svg .leader { stroke: var(--line); }
svg .chosen { font-weight: 650; }
svg .names text { paint-order: stroke; stroke: var(--ground); stroke-width: 4px; stroke-linejoin: round; }

.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); gap: 1.5rem 3rem; }
.options { white-space: nowrap; }
.pair h3 { font-size: .875rem; font-weight: 500; color: var(--quiet); margin: 0 0 .6rem; }
.bars { list-style: none; display: grid; grid-template-columns: fit-content(11rem) 1fr max-content; gap: .5rem .9rem;
  font-size: .875rem; }
.bars > li { display: grid; grid-column: 1 / -1; grid-template-columns: subgrid; align-items: center; }
.bars .name { font-weight: 500; overflow-wrap: anywhere; } .bars .value { text-align: right; white-space: nowrap; }
.bars .value small { color: var(--quiet); font-size: .75rem; }
.bars svg { display: block; width: 100%; height: .875rem; }
.bars.memory { grid-template-columns: fit-content(11rem) max-content 1fr max-content; }
.memory .device { color: var(--quiet); font-size: .8125rem; }
.memory > li.again { margin-top: -.3rem; }
.track { fill: var(--track); } .b1 { fill: var(--bar-1); } .b2 { fill: var(--bar-2); } .b3 { fill: var(--bar-3); }
.over { fill: var(--bad); } .limit-mark { fill: var(--ink); }
.key { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; font-size: .8125rem; color: var(--quiet); margin: 0 0 1rem; }
.key svg { width: .75rem; height: .75rem; margin-right: .4rem; vertical-align: -.06rem; }

.sentences { list-style: none; display: grid; gap: .5rem; font-size: .9375rem; max-width: 50rem; margin-bottom: 1.5rem; }
.about { display: grid; grid-template-columns: minmax(7rem, 11rem) 1fr; gap: .5rem 1.5rem; font-size: .875rem; }
.about dt { color: var(--quiet); } .about dd { min-width: 0; }
.about li { list-style: none; } .about li + li { margin-top: .25rem; }
code { font: .875em ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
footer { margin-top: 3.25rem; }
.aside { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }

@media screen and (max-width: 64rem) {
  table.cards thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  table.cards, table.cards tbody, table.cards caption { display: block; }
  table.cards tr { display: grid; grid-template-columns: repeat(auto-fill, minmax(6.25rem, 1fr)); gap: .6rem 1rem;
    padding: .9rem 0; border-bottom: 1px solid var(--line); }
  table.cards th, table.cards td { display: block; border: 0; padding: 0; text-align: left; white-space: normal; }
  table.cards tbody th { grid-column: 1 / -1; font-size: 1rem; }
  table.cards tbody th small { display: inline; margin-left: .5rem; }
  table.cards td::before { content: attr(data-label); display: block; color: var(--quiet); font-size: .75rem; }
  table.cards td.wrap { grid-column: 1 / -1; }
  table.rows tr { position: relative; } table.rows tbody th { padding-right: 8rem; }
  table.rows td.words:not(.wrap) { position: absolute; right: 0; top: .95rem; } table.rows td.words::before { content: none; }
  table.cards tr.advised > * { background: none; } table.cards tr.advised > :first-child { box-shadow: none; }
  table.cards tr.advised { box-shadow: -.75rem 0 0 var(--ground), -.9rem 0 0 var(--accent); }
  table.cards caption { margin-bottom: .25rem; }
}
@media screen and (max-width: 46rem) {
  main { padding: 1.75rem 1rem 3rem; }
  section { margin-top: 2.5rem; }
  .wide { display: none; } .narrow { display: block; }
  .facts { grid-template-columns: 1fr 1fr; gap: .9rem 1.5rem; } .facts dd { font-size: 1.125rem; }
  .bars, .bars.memory { grid-template-columns: 1fr; }
  .bars > li { grid-template-columns: 1fr auto; gap: .25rem .75rem; } .bars > li > svg { grid-column: 1 / -1; grid-row: 2; }
  .memory > li { grid-template-columns: auto 1fr auto; } .memory .name:empty { display: none; }
  .about { grid-template-columns: 1fr; gap: .1rem; } .about dd { margin-bottom: .75rem; }
}
@page { margin: 14mm 15mm; }
@media print {
  :root { color-scheme: light; }
  body { font-size: 10pt; background: none; }
  main { padding: 0; max-width: none; }
  section { margin-top: 1.75rem; }
  h2, h3, caption, .note, .key { break-after: avoid; }
  tr, li, figure, .facts { break-inside: avoid; } .facts { grid-template-columns: repeat(5, 1fr); gap: 1rem; }
  .pair { grid-template-columns: 1fr 1fr; gap: 1.5rem; }
  .lead { font-size: 1.6rem; }
  table { font-size: 7.5pt; } thead th, td small, th small { font-size: 6.5pt; } th, td { padding: .3rem .2rem; } tbody th { min-width: 4.5rem; }
  td small, th small { white-space: normal; }
  tr.advised > * { background: none; } tr.advised > :first-child { box-shadow: -.4rem 0 0 #fff, -.55rem 0 0 var(--accent); }
  .about a[href]::after { content: " " attr(href); color: var(--quiet); font-size: .85em; overflow-wrap: anywhere; }
}
"""
)
