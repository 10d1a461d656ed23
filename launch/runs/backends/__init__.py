"""Where a run's processes live: this machine, Slurm or Ray; one file each behind the protocol in backend.py."""
