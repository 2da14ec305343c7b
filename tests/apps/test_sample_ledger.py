"""The packaged sample: what it holds, that the VM's balances agree with it, and how recognition fares on it."""

from __future__ import annotations

import datetime as dt
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec
import pytest

from holdfast.apps.agents import sample
from holdfast.apps.agents.facilitators import fee_payers, load_facilitators
from holdfast.apps.agents.recognition import Recogniser, RecognitionConfig
from holdfast.apps.agents.sample import Label
from holdfast.upstreams.solana.associated import associated_token_account
from holdfast.upstreams.solana.parse import parse_transaction
from holdfast.upstreams.solana.records import Transaction

Key = tuple[str, int, int | None]


@pytest.fixture(scope="module")
def answers() -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in sample.ledger()]


@pytest.fixture(scope="module")
def transactions() -> list[Transaction]:
    return [parse_transaction(line, instructions=True) for line in sample.ledger()]


@pytest.fixture(scope="module")
def labels() -> dict[Key, Label]:
    return {(label.signature, label.instruction, label.inner): label for label in sample.labels()}


def measure(
    transactions: list[Transaction], labels: dict[Key, Label], config: RecognitionConfig
) -> tuple[float, float, Counter[str]]:
    """Precision and recall, and the kinds that were judged wrongly."""
    recogniser = Recogniser(config)
    counts = {(a, b): 0 for a in (True, False) for b in (True, False)}
    wrong: Counter[str] = Counter()
    for tx in transactions:
        for transfer, judgement in zip(tx.transfers, recogniser.recognise(tx), strict=True):
            label = labels[tx.signature, transfer.instruction, transfer.inner]
            counts[label.is_payment, judgement.payment] += 1
            if label.is_payment != judgement.payment:
                wrong[label.kind] += 1
    found, missed, slipped_in = counts[True, True], counts[True, False], counts[False, True]
    return found / (found + slipped_in), found / (found + missed), wrong


def test_every_transfer_has_one_label_and_every_label_its_transfer(
    transactions: list[Transaction], labels: dict[Key, Label]
) -> None:
    found = [(tx.signature, t.instruction, t.inner) for tx in transactions for t in tx.transfers]
    assert sorted(map(str, found)) == sorted(map(str, labels))
    assert len(labels) == sum(1 for _ in sample.labels())


def test_the_sample_holds_what_its_readme_says(
    answers: list[dict[str, Any]], transactions: list[Transaction], labels: dict[Key, Label]
) -> None:
    assert len(answers) == 6000
    assert len({tx.signature for tx in transactions}) == 6000
    times = [tx.block_time or 0 for tx in transactions]
    assert times == sorted(times)
    days = Counter(dt.datetime.fromtimestamp(t, dt.UTC).date() for t in times)
    assert (min(days), max(days), len(days)) == (dt.date(2026, 3, 2), dt.date(2026, 4, 30), 60)
    payments = [label for label in labels.values() if label.is_payment]
    assert 0.7 < len(payments) / len(labels) < 0.8
    assert len({label.agent for label in payments}) == 48
    kinds = Counter(label.kind for label in labels.values())
    assert min(kinds.values()) >= 10
    assert sum(n for kind, n in kinds.items() if kind.startswith("failed")) > 150
    assert {tx.version for tx in transactions} == {"legacy", "0"}
    assert {t.mint for tx in transactions for t in tx.transfers} - {None} == {t["mint"] for t in sample.tokens()}
    assert sum(bool(a["meta"].get("loadedAddresses", {}).get("readonly")) for a in answers) > 100
    assert any(t.inner is not None for tx in transactions for t in tx.transfers)


def test_the_answers_have_the_shape_of_get_transaction(answers: list[dict[str, Any]]) -> None:
    encodings: Counter[str] = Counter()
    for answer in answers:
        assert answer.keys() == {"blockTime", "meta", "slot", "transaction", "version"}
        meta = answer["meta"]
        assert {"err", "fee", "innerInstructions", "preBalances", "postBalances"} <= meta.keys()
        assert {"preTokenBalances", "postTokenBalances", "logMessages", "computeUnitsConsumed"} <= meta.keys()
        assert len(meta["preBalances"]) == len(meta["postBalances"])
        assert sum(meta["preBalances"]) - sum(meta["postBalances"]) == meta["fee"]
        transaction = answer["transaction"]
        if isinstance(transaction, list):
            assert transaction[1] == "base64"
            encodings["base64"] += 1
        else:
            assert len(transaction["message"]["accountKeys"]) <= len(meta["preBalances"])
            parsed = isinstance(transaction["message"]["accountKeys"][0], dict)
            encodings["jsonParsed" if parsed else "json"] += 1
    assert min(encodings["json"], encodings["base64"]) > 2000
    assert encodings["jsonParsed"] > 200


def moved(answer: dict[str, Any]) -> Counter[tuple[str | None, str]]:
    """How many base units each owner gained of each mint, by the balances that the VM left."""
    change: Counter[tuple[str | None, str]] = Counter()
    for side, sign in (("postTokenBalances", 1), ("preTokenBalances", -1)):
        for balance in answer["meta"][side]:
            change[balance["owner"], balance["mint"]] += sign * int(balance["uiTokenAmount"]["amount"])
    return Counter({key: units for key, units in change.items() if units})


def test_what_the_transfers_say_is_what_the_balances_did(
    answers: list[dict[str, Any]], transactions: list[Transaction]
) -> None:
    for answer, tx in zip(answers, transactions, strict=True):
        told: Counter[tuple[str | None, str]] = Counter()
        for t in tx.transfers if tx.successful else ():
            assert t.mint is not None
            told[t.source_owner, t.mint] -= t.amount
            told[t.destination_owner, t.mint] += t.amount
        assert Counter({key: units for key, units in told.items() if units}) == moved(answer), tx.signature


def test_a_failed_payment_failed_in_the_vm(transactions: list[Transaction], labels: dict[Key, Label]) -> None:
    errors: dict[str, set[str | None]] = {}
    for tx in transactions:
        for t in tx.transfers:
            kind = labels[tx.signature, t.instruction, t.inner].kind
            assert tx.successful == (not kind.startswith("failed"))
            if not tx.successful:
                errors.setdefault(kind, set()).add(tx.error)
    assert errors == {
        "failed: insufficient funds": {'{"InstructionError":[2,{"Custom":1}]}'},
        "failed: empty smart wallet": {'{"InstructionError":[2,{"Custom":1}]}'},
        "failed: frozen": {'{"InstructionError":[2,{"Custom":17}]}'},
        "failed: wrong decimals": {'{"InstructionError":[2,{"Custom":18}]}'},
        "failed: out of compute": {'{"InstructionError":[1,"ComputationalBudgetExceeded"]}'},
    }


def test_payments_reach_the_account_of_the_agent_they_are_for(
    transactions: list[Transaction], labels: dict[Key, Label]
) -> None:
    paid_at = {a["address"]: a["x402_payment_address"] for a in sample.agents()}
    for tx in transactions:
        for t in tx.transfers:
            label = labels[tx.signature, t.instruction, t.inner]
            if label.is_payment:
                assert label.agent is not None
                assert t.mint is not None
                assert t.destination == associated_token_account(paid_at[label.agent], t.mint, t.program)


def test_the_agents_totals_agree_with_the_ledger(transactions: list[Transaction], labels: dict[Key, Label]) -> None:
    tried: Counter[str | None] = Counter()
    paid: Counter[str | None] = Counter()
    for tx in transactions:
        for t in tx.transfers:
            label = labels[tx.signature, t.instruction, t.inner]
            if label.is_payment:
                tried[label.agent] += 1
                paid[label.agent] += tx.successful
    agents = sample.agents()
    assert len(agents) == len({a["address"] for a in agents}) == 50
    for agent in agents:
        assert agent["total_jobs"] == tried[agent["address"]]
        assert agent["x402_total_payments"] == paid[agent["address"]]
        assert agent["x402_enabled"] == (agent["x402_payment_address"] is not None)
        assert agent["capabilities"]
        (price,) = agent["pricing"]
        assert int(price["price"]) > 0
        assert price["token_mint"] in {t["mint"] for t in sample.tokens()}
    assert sum(not a["x402_enabled"] for a in agents) == 2
    assert any(a["owner"] is None and not a["claimed"] for a in agents)


def test_recognition_is_right_about_the_sample(transactions: list[Transaction], labels: dict[Key, Label]) -> None:
    known = sample.recognition()
    for config in (known, msgspec.structs.replace(known, pay_to={})):
        precision, recall, wrong = measure(transactions, labels, config)
        assert precision >= 0.99, wrong
        assert recall >= 0.99, wrong


def test_structure_alone_lets_little_in_and_misses_what_has_no_nonce(
    transactions: list[Transaction], labels: dict[Key, Label]
) -> None:
    alone = msgspec.structs.replace(sample.recognition(), facilitators={}, pay_to={})
    precision, recall, wrong = measure(transactions, labels, alone)
    assert precision >= 0.98, wrong
    assert 0.6 < recall < 0.75, wrong
    assert {"exact v2", "unlisted facilitator", "merchant-sponsored"}.isdisjoint(wrong)


def test_shuffled_labels_are_noticed(transactions: list[Transaction], labels: dict[Key, Label]) -> None:
    shuffled = list(labels.values())
    random.Random(7).shuffle(shuffled)
    precision, recall, _ = measure(transactions, dict(zip(labels, shuffled, strict=True)), sample.recognition())
    assert precision < 0.9
    assert recall < 0.9


def test_a_recogniser_that_forgets_its_facilitators_own_funds_is_noticed(
    transactions: list[Transaction], labels: dict[Key, Label]
) -> None:
    known = sample.recognition()
    one_name = dict(list(known.facilitators.items())[:1])
    _, _, wrong = measure(transactions, labels, msgspec.structs.replace(known, facilitators=one_name, pay_to={}))
    assert "facilitator treasury" in wrong


def test_the_shipped_facilitators_do_not_know_the_samples() -> None:
    assert fee_payers(load_facilitators()).keys().isdisjoint(sample.recognition().facilitators)


def folder_files() -> Iterator[Path]:
    return Path(str(files("holdfast.apps.agents") / "sample")).iterdir()


def test_the_sample_stays_small() -> None:
    assert sum(f.stat().st_size for f in folder_files() if f.is_file()) <= 3_000_000


ROOT = Path(__file__).parents[2]


def in_a_process(program: str, *arguments: str) -> str:
    """What a Python process of its own prints.

    The VM leaves the floating-point unit of the process it ran in so that SQLite reads the number 2440587.5 as NULL,
    which every later test of this process would trip over.
    """
    command = [sys.executable, *(("-c", program) if "\n" in program else (program,)), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_packaged_sample_is_what_the_script_makes() -> None:
    said = in_a_process("scripts/make_sample_ledger.py", "--check")
    assert "the packaged sample is what the script makes" in said


def test_a_changed_sample_is_noticed(tmp_path: Path) -> None:
    said = in_a_process(CHANGED, str(tmp_path))
    assert said.splitlines() == ["[]", "['labels.jsonl.zst', 'agents.json']"]


CHANGED = """
import sys
from pathlib import Path

from scripts import make_sample_ledger
from scripts.sample_ledger.ledger import make

folder = Path(sys.argv[1])
made = make(40, progress=False)
make_sample_ledger.write(made, folder)
print(make_sample_ledger.compare(made, folder))
(folder / "agents.json").write_bytes(made["agents.json"].replace(b"Tideline", b"Someone"))
(folder / "labels.jsonl.zst").unlink()
print(make_sample_ledger.compare(made, folder))
"""
