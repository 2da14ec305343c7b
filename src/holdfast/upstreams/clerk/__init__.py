"""Clerk, who knows users and organisations."""
