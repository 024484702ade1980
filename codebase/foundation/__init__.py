"""What everything stands on: settings, connections, workers, clocks. It knows no event."""
