"""What happens to collections, and what of the cache it ends.

Values say by their tags what they are made of; an event ends those with one of its tags, and no others:

| tag | of values made of | ended by |
|---|---|---|
| `contract:{contract}` | anything of the collection: every value below carries it too | refreshed |
| `collection:{contract}` | the collection itself: metadata, traits, figures, lists of its NFTs | updated |
| `nft:{contract}:{token_id}` | one NFT, its owner too | transferred, ownership changed |
| `owners:{contract}` | who owns what in it: holders, counts | transferred, ownership changed |
| `wallet:{wallet}` | what a wallet owns, and a user has who has the wallet | transferred, ownership changed |
| `user:{fid}` | a user: profile, wallets, collections | user updated |

Addresses are written as they are kept, in lower case: `0xAB…` and `0xab…` are two tags.
`cache_cleared` is the cache's own event: `hold.cache.clear()`, `invalidate(…)` and `delete(…)` emit it.
"""

from __future__ import annotations

from holdfast.cache import CacheCleared
from holdfast.journal import Event


class CollectionUpdated(Event, topic="collection_updated", tags=("collection:{contract}",), key="{contract}"):
    """A collection's metadata, traits or figures are others now."""

    contract: str


class CollectionRefreshed(Event, topic="collection_refreshed", tags=("contract:{contract}",), key="{contract}"):
    """A collection was read anew from the chain, with all that is in it."""

    contract: str


class NftTransferred(
    Event,
    topic="nft_transferred",
    tags=("nft:{contract}:{token_id}", "owners:{contract}", "wallet:{sender}", "wallet:{recipient}"),
    key="{contract}:{token_id}",
):
    """An NFT has another owner. One that was made has no sender, one that was burnt no recipient."""

    contract: str
    token_id: int  # up to 2**256 - 1
    sender: str | None = None
    recipient: str | None = None


class OwnershipChanged(
    Event,
    topic="ownership_changed",
    tags=("nft:{contract}:{token_id}", "owners:{contract}", "wallet:{wallet}"),
    key="{contract}",
):
    """What a wallet owns in a collection was found to be other than what was kept, of one NFT or of several."""

    contract: str
    wallet: str
    token_id: int | None = None


class UserUpdated(Event, topic="user_updated", tags=("user:{fid}",), key="{fid}"):
    """A user's profile or wallets are others now; `fid` is the user's number."""

    fid: int


EVENTS: tuple[type[Event], ...] = (
    CollectionUpdated,
    NftTransferred,
    UserUpdated,
    CollectionRefreshed,
    OwnershipChanged,
    CacheCleared,
)
