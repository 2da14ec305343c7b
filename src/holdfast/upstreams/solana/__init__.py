"""Solana: `getTransaction` and `getBlock` answers in, plain records out."""
