"""The CookieWorld study: does a distilled transformer represent and use drifting values?

One file per hypothesis: `per_lifetime(...)` makes a table with one row per lifetime, kept as CSV in
data/cookie_world; `measured(table)` turns the tables of all seeds into what `hypotheses.yaml`
names. `jobs` makes the tables, `judge` measures them, `verdicts` compares with the thresholds.
"""
