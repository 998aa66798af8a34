"""The page that shows what a job did: one HTML file that needs no other, made from the job's folder.

`content` gathers, `figures` and `search_figures` draw with Altair, `page` writes the file; `assets` are what
the page is made of.
"""
