"""One run on a machine with an NVIDIA GPU that may be cut off at any time: see docs/gpu.md.

benchmarks/gpu/run.sh     environment.py makes an environment of wheels that were brought along
__main__.py               options
runner.py                 runs the steps of plan.py, each in a process of its own with a time limit
child.py                  that process; steps.py is what it does
report.py, page.py        report.json and report.md, written anew whenever something is known
"""
