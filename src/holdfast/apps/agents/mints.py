"""Well-known mints of Solana, as their issuers publish them."""

from __future__ import annotations

from typing import NamedTuple


class Mint(NamedTuple):
    """A token's mint; `is_stablecoin` where its unit is a unit of money."""

    address: str
    symbol: str
    decimals: int
    is_stablecoin: bool = True


MINTS = (
    Mint("EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v", "USDC", 6),
    Mint("4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU", "USDC devnet", 6),
    Mint("Es9vMFrzaCERmJfrF4H2FYD4KCoNkY11McCe8BenwNYB", "USDT", 6),
    Mint("2b1kV6DkPAnxd5ixfnxCpjxmKwqjjaYmCZfHsFu24GXo", "PYUSD", 6),
    Mint("2u1tszSeqZ3qBWF3uNGPFc8TzMk2tdiwknnRMWGWjGWH", "USDG", 6),
    Mint("HzwqbKZw8HxMN6bF2yFZNrht3c2iXXzpKcFu7uBEDKtr", "EURC", 6),
    Mint("USDSwr9ApdHk5bvJKMjzff41FfuX8bSxdKcR81vTwcA", "USDS", 6),
    Mint("CASHx9KJUStyftLFWGvEVf59SGeG9sh5FfcnZMVPCASH", "CASH", 6),
    Mint("So11111111111111111111111111111111111111112", "SOL", 9, is_stablecoin=False),
)
