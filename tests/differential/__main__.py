"""`python -m tests.differential --seed S --count N [--only K]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from differential.report import main

if __name__ == "__main__":
    sys.exit(main(argparse.ArgumentParser(prog="python -m tests.differential")))
