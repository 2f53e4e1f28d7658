#!/usr/bin/env python3
"""Plan, run, resume and report a study: `python run_matrix.py --help` shows how."""

from harness.commands import main

if __name__ == "__main__":
    main()
