"""Stripe, who knows what was paid."""
