"""The programs in launch/guest, run by the real training stack."""
