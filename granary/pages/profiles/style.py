"""How the page of profiles looks."""

from granary.pages.html import BASE

STYLE = (
    BASE
    + """
nav ul{list-style:none;padding:0;columns:18rem}nav li{padding:.15rem 0;break-inside:avoid}nav span{color:var(--quiet)}
section{border-top:1px solid var(--line);padding:1.25rem 0}
table{border-collapse:collapse;width:100%;margin-top:.75rem}
thead th{text-align:left;font-weight:600;font-size:.85rem;color:var(--quiet);border-bottom:1px solid var(--line)}
th,td{padding:.5rem .75rem .5rem 0;vertical-align:top;text-align:left}
tbody tr{border-bottom:1px solid var(--line)}
tbody th{font-weight:600;overflow-wrap:anywhere;max-width:16rem}
td{font-variant-numeric:tabular-nums}
small{display:block;font-weight:400;font-size:.78rem;color:var(--quiet)}
.quiet{color:var(--quiet)}
b.some,b.much{font-size:.78rem;font-weight:600;padding:.05rem .4rem;border-radius:.6rem;white-space:nowrap}
b.some{color:var(--some);background:var(--somebg)}b.much{color:var(--much);background:var(--muchbg)}
svg{display:block;width:100%;min-width:10rem;height:2.2rem;fill:var(--bar)}
.quantiles{display:flex;flex-wrap:wrap;gap:.1rem .9rem;font-size:.85rem;margin-top:.2rem}
.meter{display:block;height:.3rem;background:var(--line);border-radius:.2rem;overflow:hidden;min-width:4rem}
.meter i{display:block;height:100%;background:var(--bar)}
ol{list-style:none;margin:0;padding:0;font-size:.85rem;min-width:10rem}
ol li{display:grid;grid-template-columns:1fr auto;gap:0 .5rem}ol .meter{grid-column:1/3;margin-bottom:.2rem}
.value{overflow-wrap:anywhere}
table.columns td:nth-child(4){width:42%}
@media (max-width:44rem){thead{position:absolute;left:-9999px}table,tbody,tr,th,td{display:block;width:auto}
tbody tr{background:var(--card);border:1px solid var(--line);border-radius:.5rem;padding:.6rem .75rem;margin:.6rem 0}
tbody th{max-width:none;padding:0 0 .3rem}table.columns td:nth-child(4){width:auto}
td{padding:.2rem 0}td:empty{display:none}
td::before{content:attr(data-name);display:block;font-size:.78rem;color:var(--quiet)}}
"""
)
