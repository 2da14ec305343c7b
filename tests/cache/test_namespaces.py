"""Parts of the cache: namespaces that end together, patterns that are cleaned up."""

from __future__ import annotations

import pytest

from holdfast import Holdfast, Load
from holdfast.cache import LoadMany
from holdfast.errors import ConfigurationError, InvalidValue
from tests.cache.conftest import ALSO_ON_A_CLUSTER

pytestmark = pytest.mark.parametrize("hold", ALSO_ON_A_CLUSTER, indirect=True)


async def named(load: Load) -> str:
    return f"loaded {load.key}"


async def test_a_namespace_ends_together_on_every_node_and_nothing_else_does(hold: Holdfast, other: Holdfast) -> None:
    prices, theirs = (node.cache.namespace("prices", ttl="10s", tags=("market",)) for node in (hold, other))
    assert await prices.get_or_load("BTC", named) == "loaded prices:BTC"
    assert await theirs.get_or_load("BTC", named) == "loaded prices:BTC"
    await prices.set("ETH", 5)
    await hold.cache.set("ETH", "another")
    assert (prices.peek("BTC"), prices.peek("ETH")) == ("loaded prices:BTC", 5)
    assert (await prices.lookup("BTC", named)).value == "loaded prices:BTC"

    async def many(load: LoadMany) -> dict[str, int]:
        return {key: len(key) for key in load.keys}

    assert await prices.get_or_load_many(["ETH", "SOL"], many) == {"ETH": 5, "SOL": 10}
    assert await prices.get_or_load_many(["DOT"], many, tags=("chain",)) == {"DOT": 10}
    await prices.set_many({"ADA": 1, "XRP": 2})
    assert await prices.get_many(["XRP", "none", "DOT"]) == {"XRP": 2, "DOT": 10}
    assert await prices.refresh("ADA", named)
    assert prices.peek("ADA") == "loaded prices:ADA"
    await hold.cache.invalidate("chain")
    assert await prices.get_many(["XRP", "DOT"]) == {"XRP": 2}
    await prices.delete("ETH")
    assert await prices.get("ETH") is None
    await prices.clear()
    await other.cache.renew()
    assert [await prices.get("BTC"), await theirs.get("BTC"), await prices.get("SOL")] == [None] * 3
    assert await hold.cache.get("ETH") == "another"
    await prices.set("BTC", 1)
    await hold.cache.invalidate("market")
    assert await prices.get("BTC") is None


async def test_what_cannot_be_a_namespace_is_told(hold: Holdfast) -> None:
    with pytest.raises(InvalidValue, match="no key of the cache"):
        hold.cache.namespace("a\n")
    with pytest.raises(InvalidValue, match=r"write 'a\.b'"):
        hold.cache.namespace("a:b")
    with pytest.raises(ConfigurationError, match="ttl="):
        hold.cache.namespace("a", ttl="soon")


async def test_a_pattern_is_cleaned_up(hold: Holdfast) -> None:
    for key in ("user:1:a", "user:2:a", "user:1:b", "shop:1:a"):
        await hold.cache.set(key, 1)
    removed = await hold.cache.remove_matching("user:*:a")
    assert hold.cache.peek("user:1:a") is None
    if hold.settings.redis_url is None:
        assert removed == 0
        return
    assert removed == 2
    assert await hold.cache.get("user:1:a") is None
    assert await hold.cache.get("user:1:b") == await hold.cache.get("shop:1:a") == 1
    assert await hold.cache.remove_matching("nothing[*") == 0
