"""What one driver can serve."""
