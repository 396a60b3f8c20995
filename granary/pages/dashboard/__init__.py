"""The dashboard: pages for people, made from the marts as static files that need nothing from outside.

`queries/` has one reviewed query per data set, `pages/` one module per page that says which figures and charts to draw
of them, `page.js` filters and adds up in the browser. See docs/dashboard.md.
"""
