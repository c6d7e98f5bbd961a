"""Tables, statistics, figures and reports of a run; needs neither PyTorch nor Ray."""
