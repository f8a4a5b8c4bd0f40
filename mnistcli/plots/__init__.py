"""Figures of runs, scores, networks and data sets, drawn with matplotlib.

`kinds` lists the kinds of plot that `mnist plot` offers; the module of a kind draws it. Figures
are built and saved under `style.STYLE`, without pyplot, so that a user's matplotlib settings
neither affect them nor are changed, and the same input gives the same bytes.
"""
