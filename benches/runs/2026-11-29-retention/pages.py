#!/usr/bin/env python3
"""What a disk takes to write N pages of 4 KiB at random places of a file of 400 MiB, with one fdatasync at the end.

    pages.py DIRECTORY

The least that any store of pages can hold its writer for, if a commit changes N of them.
"""

import os
import random
import statistics
import sys
import time

PAGE = 4096
PAGES = 100 << 10
TIMES = 30

path = os.path.join(sys.argv[1], "pages.bin")
file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
for _ in range(PAGES * PAGE >> 20):
    os.write(file, os.urandom(1 << 20))
os.fsync(file)
page = os.urandom(PAGE)
for count in [1, 64, 256, 512, 1024, 2048, 4096]:
    taken = []
    for _ in range(TIMES):
        places = sorted(random.randrange(PAGES) for _ in range(count))
        began = time.monotonic()
        for place in places:
            os.pwrite(file, page, place * PAGE)
        os.fdatasync(file)
        taken.append((time.monotonic() - began) * 1000)
    print(f"{count} pages: median {statistics.median(taken):.1f} ms, longest {max(taken):.1f} ms")
os.unlink(path)
