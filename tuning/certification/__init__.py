"""Certification: from models and held-out images to certificates, tables and logs."""
