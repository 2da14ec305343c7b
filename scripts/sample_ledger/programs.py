"""The two programs that the sample brings along, in assembly: a smart wallet, and an assertion that always holds.

Both run in the VM like any program. They stand in for Squads or Swig and for Lighthouse, whose code is not ours to
ship.
"""

from __future__ import annotations

from .sbpf import Program

WALLET_SEED = b"wallet"

_HEAP = 0x3_0000_0000
_INFOS = _HEAP  # six SolAccountInfo of 56 bytes
_METAS = _HEAP + 0x200  # four SolAccountMeta of 16
_INSTRUCTION = _HEAP + 0x280  # SolInstruction
_SEEDS = _HEAP + 0x300  # three SolSignerSeed of 16, then the SolSignerSeeds that names them
_SEED = _HEAP + 0x380  # the text of the first seed
_ACCOUNT_HEAD, _ACCOUNT_GROWTH = 88, 10_240


def smart_wallet() -> bytes:
    """Return the ELF of a wallet program: it passes a token instruction on, signing for the owner's wallet.

    Accounts: token program, source, mint, destination, wallet (the program address of "wallet" and the owner), owner
    (signer). Data: the address's bump, then the token instruction's data. Fails with Custom(1) where the owner has not
    signed; the token program's failure is its own.
    """
    p = Program()
    # r6 walks the input, r7 the SolAccountInfo being written, r8 counts down the accounts.
    p.alu_register("mov", 6, 1)
    p.load("dw", 8, 6)
    p.alu("add", 6, 8)
    p.set(7, _INFOS)
    p.label("account")
    p.jump("jeq", "accounts read", 8, 0)
    for offset, at in ((0, 8), (8, 72), (24, _ACCOUNT_HEAD), (32, 40)):  # key, lamports, data, owner: pointers
        p.alu_register("mov", 1, 6)
        p.alu("add", 1, at)
        p.store("dw", 7, offset, 1)
    p.load("dw", 2, 6, 80)
    p.store("dw", 7, 16, 2)
    for offset, at in ((48, 1), (49, 2), (50, 3)):  # signer, writable, executable
        p.load("b", 1, 6, at)
        p.store("b", 7, offset, 1)
    p.alu_register("add", 6, 2)
    p.alu("add", 6, _ACCOUNT_HEAD + _ACCOUNT_GROWTH + 7)
    p.alu("and", 6, -8)
    p.load("dw", 1, 6)
    p.store("dw", 7, 40, 1)  # rent epoch
    p.alu("add", 6, 8)
    p.alu("add", 7, 56)
    p.alu("add", 8, -1)
    p.jump("ja", "account")
    p.label("accounts read")
    p.set(7, _INFOS)
    p.load("b", 1, 7, 5 * 56 + 48)
    p.jump("jne", "signed", 1, 0)
    p.alu("mov", 0, 1)
    p.exit()
    p.label("signed")
    p.set(9, _METAS)
    for i in range(4):
        p.load("dw", 1, 7, (i + 1) * 56)
        p.store("dw", 9, i * 16, 1)
        p.store_value("b", 9, i * 16 + 8, i in (0, 2))
        p.store_value("b", 9, i * 16 + 9, i == 3)
    p.set(3, _INSTRUCTION)
    p.load("dw", 1, 7)
    p.store("dw", 3, 0, 1)
    p.store("dw", 3, 8, 9)
    p.store_value("dw", 3, 16, 4)
    # r6 is at the length of the data; the first byte of it is the bump.
    p.load("dw", 2, 6)
    p.alu("add", 2, -1)
    p.store("dw", 3, 32, 2)
    p.alu("add", 6, 8)
    p.alu_register("mov", 2, 6)
    p.alu("add", 2, 1)
    p.store("dw", 3, 24, 2)
    p.set(4, _SEEDS)
    p.set(1, _SEED)
    p.set(2, int.from_bytes(WALLET_SEED, "little"))
    p.store("dw", 1, 0, 2)
    p.store("dw", 4, 0, 1)
    p.store_value("dw", 4, 8, len(WALLET_SEED))
    p.load("dw", 1, 7, 5 * 56)
    p.store("dw", 4, 16, 1)
    p.store_value("dw", 4, 24, 32)
    p.store("dw", 4, 32, 6)
    p.store_value("dw", 4, 40, 1)
    p.store("dw", 4, 48, 4)
    p.store_value("dw", 4, 56, 3)
    p.set(1, _INSTRUCTION)
    p.set(2, _INFOS)
    p.alu("mov", 3, 6)
    p.alu("add", 4, 48)
    p.alu("mov", 5, 1)
    p.call("sol_invoke_signed_c")
    p.exit()
    return p.elf()


def assertion() -> bytes:
    """Return the ELF of a program that succeeds whatever it is asked."""
    p = Program()
    p.alu("mov", 0, 0)
    p.exit()
    return p.elf()
