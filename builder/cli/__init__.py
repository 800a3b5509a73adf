"""Layer 5: parse arguments, wire backends, render results, map errors to exit status.

Rules of the command line:
- stdout carries the result and nothing else; progress, notes and errors go to stderr.
- `--json` gives exactly one JSON document on stdout, also for an error (`schemas/result-v1.json`).
- A result on a terminal may be coloured and boxed; in a pipe it is plain text.
- An error names the thing, what was found and what was wanted; `hint:` is the next step.
"""
