"""The program of a supervisor process: `python -P launch/start_supervisor.py RUN_FOLDER`; imported by nobody.

Not `-m launch.supervisor`: in a checkout that is not installed, its folder would have to stand before the standard
library on the path, and a file there or in the working folder that is called like a module would be run.
"""

import sys

if __name__ == "__main__":
    # Loaded by Python itself before it looks at any folder.
    import os

    # An empty entry of PYTHONPATH is the working folder, which Python has made absolute by now.
    here = (os.curdir, "", os.getcwd())  # noqa: PTH109 - pathlib is a file
    sys.path[:] = [entry for entry in sys.path if entry not in here]
    sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # noqa: PTH100, PTH120

    from launch.supervisor import supervise

    supervise(sys.argv[1])
