"""The measurements, one module per subject; each yields its rows."""
