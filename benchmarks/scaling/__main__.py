"""Measures what several devices cost on this machine, and writes the record and docs/scaling.md.

    python -m benchmarks.scaling [--quick] [--page]

It takes about five minutes on two idle cores. --quick tries all parts in half a minute and writes nothing; --page writes the
page anew from the record.
"""

import argparse
import json
import pathlib
import sys

from benchmarks.scaling import measure
from benchmarks.scaling.page import page
from cnnlab import files

ROOT = pathlib.Path(__file__).resolve().parents[2]
RECORD = pathlib.Path(__file__).with_name("record.json")
PAGE = ROOT / "docs" / "scaling.md"


def main() -> None:
    """Measures, then writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round of LeNet-5 with small batches; nothing is written")
    parser.add_argument("--page", action="store_true", help="write the page from the record; nothing is measured")
    given = parser.parse_args()
    if given.quick:
        json.dump(measure.record(measure.QUICK), sys.stdout, indent=1)
        return
    if not given.page:
        files.write_json(RECORD, measure.record(measure.PLANS))
    PAGE.write_text(page(json.loads(RECORD.read_text(encoding="utf-8"))), encoding="utf-8")


if __name__ == "__main__":
    main()
