"""Accuracy without data, measured: what `scripts/reproduce_accuracy` is made of.

which rows (table.py of methods.py) -> images (subject.py) and calibration sets (calibrations.py) -> one row (measure.py of
builds.py), here or in workers (jobs.py) -> kept as it is done (row_store.py) -> means over seeds (summary.py)
    -> what must hold (claims.py) -> a page (markdown.py)
"""
