"""What the hypotheses about creatures measure: per life first, then an interval each.

`per_life(...)` makes a frame with a row per life (or per life and read-out), which is kept as CSV; `measured(frame)` makes of
such frames, one per seed and joined with a column `seed`, what `hypotheses.yaml` names. Whoever disagrees starts there.
"""
