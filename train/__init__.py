"""Recipes, model, loss, loop, checkpoints.

Imported before torch by every program of this floor, which is why one setting stands here: waiting OpenMP threads
give up their core after a short spin. By default they spin for milliseconds, and where anything else wants a core
(this project's own loader threads do) two threads then run several times slower than one (train/LOG.md, 2026-11-24).
"""

import os

os.environ.setdefault("GOMP_SPINCOUNT", "1000")
