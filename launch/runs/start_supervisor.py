"""The program of a supervisor process: `python -P launch/runs/start_supervisor.py RUN_FOLDER`; imported by nobody.

Not `-m launch.runs.supervisor`: in a checkout that is not installed, its folder would have to stand before the
standard library on the path, and a file there or in the working folder that is called like a module would be run.
"""

import sys

if __name__ == "__main__":
    # Loaded by Python itself before it looks at any folder.
    import os

    # An empty entry of PYTHONPATH is the working folder, which Python has made absolute by now.
    here = (os.curdir, "", os.getcwd())  # noqa: PTH109 - pathlib is a file
    sys.path[:] = [entry for entry in sys.path if entry not in here]
    root = os.path.abspath(__file__)  # noqa: PTH100
    for _ in range(3):
        root = os.path.dirname(root)  # noqa: PTH120
    sys.path.append(root)

    from launch.runs.supervisor import supervise

    supervise(sys.argv[1])
