"""All mutations: level → name → function(rng, what is there, the other image's) → what is then.

`BENIGN` ones must verify, however they are drawn.
"""

from __future__ import annotations

from collections.abc import Mapping

from differential.archives import TAR
from differential.documents import DOCUMENT
from differential.gzips import GZIP
from differential.image import Change
from differential.indexes import ENTRIES, LISTING, NAMED

MUTATIONS: Mapping[str, Mapping[str, Change]] = {
    "index": {**DOCUMENT, **ENTRIES, **NAMED},
    "nested": {**DOCUMENT, **ENTRIES},
    "marker": DOCUMENT,
    "listing": {**DOCUMENT, **LISTING},
    "manifest": DOCUMENT,
    "unsigned": DOCUMENT,
    "config": DOCUMENT,
    "tar": TAR,
    "gzip": GZIP,
    "archive": TAR,
}
BENIGN = {
    ("index", "entries in another order"),
    ("index", "an unrelated image"),
    ("archive", "order"),
    ("archive", "times and names of owners"),
    ("index", "white space"),
    ("listing", "white space"),
}
