"""What operators do: migrate, verify, rebuild, repair, look."""
