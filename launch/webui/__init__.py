"""The WebUI, filled in and started."""
