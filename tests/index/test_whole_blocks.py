"""What is indexed from real answers, held against the balances that they carry."""

from __future__ import annotations

import gzip
from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard

from holdfast.apps.agents import sample
from tests.index.balances import disagreements, entries, signature_of
from tests.index.commands import index, invoke, transfers

SAMPLES = Path(__file__).parents[3] / "shared" / "data" / "solana"  # real mainnet answers, where somebody has them
FIELDS = [
    *("signature", "slot", "instruction", "inner", "kind", "mint", "decimals", "amount", "fee", "source"),
    *("source_owner", "destination", "destination_owner", "authority", "successful", "payment", "confidence", "reason"),
]
KINDS = {"transfer", "transferChecked", "transferCheckedWithFee"}


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """900 transactions that a Solana VM has run, in every encoding, failed ones among them, as JSON lines."""
    file = tmp_path_factory.mktemp("ledger") / "ledger.jsonl"
    file.write_bytes(b"".join(line.rstrip() + b"\n" for line in islice(sample.ledger(), 900)))
    return file


def given(*files: Path) -> Iterator[dict[str, Any]]:
    """The transactions in `files`, decoded by another JSON reader's rules: none."""
    for file in files:
        data = file.read_bytes()
        try:
            documents = [msgspec.json.decode(data)]
        except msgspec.DecodeError:
            documents = [msgspec.json.decode(line) for line in data.splitlines()]
        for document in documents:
            yield from entries(document)


def check(stored: list[dict[str, Any]], answers: list[dict[str, Any]]) -> int:
    """Hold stored transfers against the answers they come from; returns how many balances were compared."""
    by_signature: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for transfer in stored:
        assert list(transfer) == FIELDS
        assert transfer["kind"] in KINDS
        assert transfer["amount"] == str(int(transfer["amount"]))
        assert transfer["inner"] is None or transfer["inner"] >= 0
        by_signature[transfer["signature"]].append(transfer)
    compared = 0
    seen = set()
    for answer in answers:
        signature = signature_of(answer)
        if signature in seen:
            continue
        seen.add(signature)
        of_it = by_signature.pop(signature, [])
        succeeded = answer["meta"]["err"] is None
        assert {t["successful"] for t in of_it} <= {succeeded}
        if succeeded:
            count, problems = disagreements(answer, of_it)
            assert problems == [], signature
            compared += count
    assert not by_signature, "transfers of transactions that were not given"
    return compared


def test_transfers_agree_with_the_balances(ledger: Path, tmp_path: Path) -> None:
    answers = list(given(ledger))
    counts = index(ledger, "--all", folder=tmp_path)
    stored = transfers(folder=tmp_path)
    assert check(stored, answers) > 1_000
    assert counts["transactions"] == len(answers) == 900
    assert counts["failed"] == sum(a["meta"]["err"] is not None for a in answers) > 10
    assert counts["transfers"] == len(stored)
    assert (counts["duplicates"], counts["rejected"]) == (0, 0)

    again = index(ledger, "--all", folder=tmp_path)
    assert again["duplicates"] == len(stored)
    assert transfers(folder=tmp_path) == stored

    succeeded, failed = transfers("--successful", folder=tmp_path), transfers("--failed", folder=tmp_path)
    assert succeeded == [t for t in stored if t["successful"]]
    assert failed == [t for t in stored if not t["successful"]]
    mint = stored[0]["mint"]
    assert transfers("--mint", mint, "--successful", folder=tmp_path) == [t for t in succeeded if t["mint"] == mint]


def test_a_block_a_list_and_lines_of_the_same_transactions_give_the_same_rows(ledger: Path, tmp_path: Path) -> None:
    lines = ledger.read_bytes().splitlines()[:120]
    answers = [msgspec.json.decode(line) for line in lines]
    block = {
        "blockhash": "x",
        "blockTime": answers[0]["blockTime"],
        "parentSlot": 4,
        "transactions": [{key: a[key] for key in ("transaction", "meta", "version") if key in a} for a in answers],
    }
    packed = zstandard.compress(msgspec.json.encode({"jsonrpc": "2.0", "id": 1, "result": block}))
    inputs = {
        "lines.jsonl": b"\n".join(lines),
        "list.json": b"[" + b",\n".join(lines) + b"]",
        "lines.jsonl.gz": gzip.compress(b"\n".join(lines)),
        "block.json": msgspec.json.encode(block),
        "block.json.zst": packed,
    }
    found = {}
    for name, content in inputs.items():
        folder = tmp_path / name.replace(".", "-")
        folder.mkdir()
        (folder / name).write_bytes(content)
        assert index(folder / name, "--all", folder=folder)["transactions"] == 120
        found[name] = transfers(folder=folder)
    alone = found["lines.jsonl"]
    assert check(alone, answers) > 100
    assert found["list.json"] == found["lines.jsonl.gz"] == alone
    without_slots = [{**transfer, "slot": None} for transfer in alone]
    assert found["block.json"] == found["block.json.zst"] == without_slots
    # A folder of all of them, in order of name, fills in the slots that the blocks did not tell.
    everything = tmp_path / "everything"
    everything.mkdir()
    for name, content in inputs.items():
        (everything / name).write_bytes(content)
    counts = index(everything, "--all", folder=tmp_path)
    assert counts["duplicates"] == 4 * len(alone)
    assert transfers(folder=tmp_path) == alone


def test_standard_input_is_a_file_like_any_other(ledger: Path, tmp_path: Path) -> None:
    lines = ledger.read_bytes().splitlines()[:50]
    counts = index("-", "--all", folder=tmp_path, stdin=b"\n".join([*lines, b"{}"]), expect=3)
    assert (counts["transactions"], counts["rejected"]) == (50, 1)
    assert check(transfers(folder=tmp_path), [msgspec.json.decode(line) for line in lines]) > 50


def test_without_all_only_payments_and_attempts_are_kept(ledger: Path, tmp_path: Path) -> None:
    (tmp_path / "knowing.json").write_bytes(msgspec.json.encode(sample.recognition()))
    counts = index(ledger, "--recognition", tmp_path / "knowing.json", folder=tmp_path)
    stored = transfers(folder=tmp_path)
    assert len(stored) == counts["payments"] < counts["transfers"]
    assert all(transfer["payment"] and transfer["confidence"] >= 0.5 for transfer in stored)
    labels = {(label.signature, label.instruction, label.inner): label for label in sample.labels()}
    truly = [labels[t["signature"], t["instruction"], t["inner"]].is_payment for t in stored]
    assert sum(truly) >= 0.99 * len(truly)
    assert any(not transfer["successful"] for transfer in stored)


def test_real_mainnet_answers_agree_with_their_balances(tmp_path: Path, ledger: Path) -> None:
    """Where real samples are at hand; elsewhere the packaged ledger stands in for them."""
    files = sorted(SAMPLES.rglob("*.json")) or [ledger]
    answers = list(given(*files))
    counts = index(*files, "--all", folder=tmp_path)
    assert (counts["transactions"], counts["rejected"]) == (len(answers), 0)
    stored = transfers(folder=tmp_path)
    assert check(stored, answers) > 50
    assert index(*files, "--all", folder=tmp_path)["duplicates"] == counts["transfers"]
    assert transfers(folder=tmp_path) == stored


def test_people_are_shown_a_table_and_the_first_rows_only(ledger: Path, tmp_path: Path) -> None:
    index(ledger, "--all", folder=tmp_path)
    lines = invoke("query", "transfers", folder=tmp_path).splitlines()
    assert 52 <= len(lines) <= 53
    assert "--json" in lines[-1]
