"""The program of a supervisor process: `python -P launch/runs/start_supervisor.py RUN_FOLDER`; imported by nobody.

With `--until-stdin-ends` it stops its run when whoever started it is no more.

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

    is_on_leash = "--until-stdin-ends" in sys.argv[2:]
    if is_on_leash and hasattr(os, "fork") and (child := os.fork()):
        # Ray kills its workers' children at once; a grandchild has the time to let its training end.
        os.waitpid(child, 0)
        sys.exit()

    supervise(sys.argv[1], is_on_leash=is_on_leash)
