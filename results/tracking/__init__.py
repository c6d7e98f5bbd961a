"""What a run has found, for experiment trackers: `decrop track`."""
