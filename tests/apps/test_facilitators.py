"""The shipped facilitators, and a user's own list beside or in place of them."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import msgspec
import pytest

from holdfast.apps.agents.facilitators import Facilitator, fee_payers, load_facilitators
from holdfast.errors import ConfigurationError
from holdfast.upstreams.solana.associated import address_bytes
from tests.apps.x402 import PAYAI, RELAYER

EVM = "0xC6699d2aada6C36dfea5c248dd70f9cb0235cb63"


def written(folder: Path, value: object) -> Path:
    file = folder / "facilitators.json"
    file.write_bytes(value if isinstance(value, bytes) else msgspec.json.encode(value))
    return file


def test_the_shipped_list_names_its_sources_and_holds_addresses_of_several_networks() -> None:
    shipped = load_facilitators()
    document = msgspec.json.decode(files("holdfast.apps.agents").joinpath("facilitators.json").read_bytes())
    assert [source["commit"][:8] for source in document["sources"]] == ["e85e6727", "02ed365a"]
    assert len({(f.network, f.address) for f in shipped}) == len(shipped) == 157
    assert {f.network for f in shipped} == {"solana", "base", "polygon"}
    for f in shipped:
        assert f.name
        assert f.source is not None
        assert f.source < len(document["sources"])
        if f.network == "solana":
            assert len(address_bytes(f.address)) == 32
        else:
            assert f.address == f.address.lower()
            assert len(f.address) == 42
    assert len(fee_payers(shipped)) == 27
    assert fee_payers(shipped)[PAYAI] == "payAI"
    assert len(fee_payers(shipped, "base")) > 100


@pytest.mark.parametrize(
    "document",
    [{RELAYER: "mine", EVM: "mine too"}, [{"address": RELAYER, "name": "mine"}, {"address": EVM, "name": "mine too"}]],
)
def test_a_users_list_extends_the_shipped_one(tmp_path: Path, document: object) -> None:
    known = load_facilitators(written(tmp_path, document))
    assert known[:-2] == load_facilitators()
    assert known[-2:] == [
        Facilitator(name="mine", address=RELAYER, network="solana"),
        Facilitator(name="mine too", address=EVM.lower(), network="evm"),
    ]


def test_a_users_name_for_a_shipped_address_wins(tmp_path: Path) -> None:
    assert fee_payers(load_facilitators(written(tmp_path, {PAYAI: "our friend"})))[PAYAI] == "our friend"


def test_a_users_list_replaces_the_shipped_one_where_it_says_so(tmp_path: Path) -> None:
    only = load_facilitators(written(tmp_path, {"replace": True, "facilitators": {RELAYER: "mine"}}))
    assert only == [Facilitator(name="mine", address=RELAYER, network="solana")]
    both = load_facilitators(written(tmp_path, {"facilitators": [{"address": EVM, "name": "x", "network": "base"}]}))
    assert len(both) == 157
    assert fee_payers(both, "base")[EVM.lower()] == "x"


@pytest.mark.parametrize(
    ("document", "what"),
    [
        (b"{nonsense", "is not JSON"),
        ("text", "holds str: it must be"),
        ([PAYAI], "entry 0: .* is not an object"),
        ([{"address": PAYAI}], "entry 0: `name` is None"),
        ([{"address": PAYAI, "name": "x", "network": 1}], "`network` is 1"),
        ({PAYAI: "ok", "short": "x"}, "entry 'short': 'short' is not a Solana address"),
        ({PAYAI[:-1] + "0": "x"}, "not base58"),
        ({"0x12": "x"}, "'0x12' is not an EVM address"),
        ({PAYAI: ""}, "`name` is ''"),
        ({"replace": "yes", "facilitators": {}}, "`replace` is 'yes'"),
        ({"extend": True, "facilitators": {}}, "unknown key 'extend'"),
    ],
)
def test_an_unusable_list_is_refused_with_the_file_and_the_fault(tmp_path: Path, document: object, what: str) -> None:
    with pytest.raises(ConfigurationError, match=what) as raised:
        load_facilitators(written(tmp_path, document))
    assert "facilitators.json" in str(raised.value)


def test_a_missing_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"missing\.json cannot be read: No such file"):
        load_facilitators(tmp_path / "missing.json")
