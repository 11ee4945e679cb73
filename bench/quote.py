#!/usr/bin/python3
"""Put the table "Reach" of a run into a text, between its two marks: quote.py RESULTS.md README.md"""

import re
import sys
from pathlib import Path

results, target = map(Path, sys.argv[1:])
text = results.read_text(encoding="utf-8")
reach = re.search(r"^## Reach\n\n(.*?)\n\n", text, re.M | re.S)
said = re.search(r"^(\d{4}-.*?)\n", text, re.M)
if reach is None or "mean nothing" in text:
    sys.exit(f"{results}: holds no whole run")
old = target.read_text(encoding="utf-8")
new, times = re.subn(r"(<!-- reach:.*?-->\n).*?(<!-- end -->)",
                     lambda m: f"{m[1]}\n{said[1]}\n\n{reach[1]}\n\n{m[2]}", old, flags=re.S)
if times != 1:
    sys.exit(f"{target}: no place for it")
target.write_text(new, encoding="utf-8")
