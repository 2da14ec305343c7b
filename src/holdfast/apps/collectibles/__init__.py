"""Collections of NFTs and who owns what of them: so far what happens to them, as events; no tables yet."""
