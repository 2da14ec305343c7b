"""Write `src/holdfast/blocking/faces.pyi` from the asynchronous classes: `python scripts/blocking_stubs.py [--check]`.

The blocking face is derived when it is used; a type checker needs to be told what it will be. With `--check` nothing is
written, and the exit is 1 when the file is not what would be written.
"""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STUB = ROOT / "src/holdfast/blocking/faces.pyi"
CLASSES = {
    "Repository": ("src/holdfast/store/repository.py", "BlockingRepository"),
    "Rows": ("src/holdfast/cache/rows.py", "BlockingRows"),
    "Cache": ("src/holdfast/cache/cache.py", "BlockingCache"),
    "Limiter": ("src/holdfast/guard/limits/limiter.py", "BlockingLimiter"),
    "Services": ("src/holdfast/guard/services.py", "BlockingServices"),
    "Unit": ("src/holdfast/store/unit.py", "BlockingUnit"),
    "Holdfast": ("src/holdfast/hold.py", "BlockingHoldfast"),
}
HEADER = '''"""Written by scripts/blocking_stubs.py from the asynchronous classes: do not edit."""

from __future__ import annotations

'''
RENAMED = {name: blocking for name, (_, blocking) in CLASSES.items()} | {
    "AsyncIterator": "Iterator",
    "AbstractAsyncContextManager": "AbstractContextManager",
    "AsyncConnection": "Any",
    "AsyncSession": "Any",
    "Awaitable": "Outcome",
    "Examiner": "Any",
    "Keyed": "Any",
    "Migrations": "Any",
    "Namespace": "Any",
    "Worker": "Any",
}
LEFT_OUT = {
    "open",
    "start",
    "blocking",
    "translated",
    "must_write",
    "after_commit_callbacks",
    "answer",
    "ask",
    "begins",
    "has_written",
    "wrote",
    # Properties, which are among the attributes below.
    "keys",
    "sessions",
    "consents",
    "subject_keys",
}
# What a face gives beside its methods: attributes, as the docstrings of the classes say.
ATTRIBUTES = {
    "BlockingRepository": {"model": "type[M]"},
    "BlockingRows": {"model": "type[M]", "options": "Options", "is_shared": "bool"},
    "BlockingCache": {"peek": "Peek", "statistics": "Statistics"},
    "BlockingLimiter": {"tiers": "Tiers"},
    "BlockingServices": {},
    "BlockingUnit": {
        "actor": "str | None",
        "tenant": "str | None",
        "request_id": "str | None",
        "read_only": "bool",
        "session": "Any",
        "store": "Any",
    },
    "BlockingHoldfast": {
        "settings": "Settings",
        "models": "list[type[Model]]",
        "store": "Any",
        "journal": "Any",
        "handlers": "Any",
        "rollups": "Any",
        "schedules": "Any",
        "counters": "Any",
        "appends": "Any",
        "cache": "BlockingCache",
        "limits": "BlockingLimiter",
        "services": "BlockingServices",
        "audit": "Any",
        "privacy": "Any",
        "keys": "Any",
        "sessions": "Any",
        "consents": "Any",
    },
}
WITH = """
    def __init__(self, opening: Callable[[bool], Any]) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *error: object) -> None: ...
"""


class Renaming(ast.NodeTransformer):
    """Annotations as the blocking face has them."""

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        self.generic_visit(node)
        # A function that may return what is awaited may just as well return it.
        return node.slice if isinstance(node.value, ast.Name) and node.value.id == "Outcome" else node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Name(RENAMED.get(node.id, node.id), node.ctx)


def stub() -> str:
    """The text of the stub."""
    imports: dict[str, set[str]] = {}
    bodies = []
    for name, (path, blocking) in CLASSES.items():
        tree = ast.parse((ROOT / path).read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module not in (None, "__future__"):
                imports.setdefault(str(node.module), set()).update(alias.name for alias in node.names)
        [found] = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name]
        bodies.append(_face(found, blocking))
    imports.setdefault("collections.abc", set()).update(("Iterator",))
    imports.setdefault("contextlib", set()).add("AbstractContextManager")
    imports.setdefault("typing", set()).update(("Self", "Any", "Generic", "TypeVar"))
    imports["holdfast.model"] = imports.get("holdfast.model", set()) | {"Model"}
    text = "\n\n".join(bodies)
    used = {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)} | {"TypeVar", "Model"}
    lines = []
    for module in sorted(imports, key=lambda module: (module.startswith(("holdfast", "sqlalchemy")), module)):
        names = sorted(imports[module] & used)
        used -= set(names)  # a class may come from its room here and from its file there
        if names:
            lines.append(f"from {module} import {', '.join(names)}")
    variables = 'F = TypeVar("F")\nM = TypeVar("M", bound=Model)\nT = TypeVar("T")\n'
    return _formatted(HEADER + "\n".join(lines) + "\n\n" + variables + "\n" + text)


def _formatted(text: str) -> str:
    ruff = str(Path(sys.executable).parent / "ruff")
    for command in (["check", "--quiet", "--select", "I,F401", "--fix"], ["format", "--quiet"]):
        done = subprocess.run(
            [ruff, *command, "--stdin-filename", str(STUB), "-"],
            input=text,
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
        )
        text = done.stdout
    return text


def _face(node: ast.ClassDef, name: str) -> str:
    generic = "(Generic[M])" if name in ("BlockingRepository", "BlockingRows") else ""
    lines = [f"class {name}{generic}:"]
    lines += [f"    {attribute}: {kind}" for attribute, kind in ATTRIBUTES[name].items()]
    overloaded = {getattr(member, "name", "") for member in node.body if _is_overload(member)}
    for member in node.body:
        if not isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef) or member.name in LEFT_OUT:
            continue
        if member.name.startswith("_") and member.name != "__getitem__":
            continue
        if _is_overload(member):
            lines.append("    @overload")
        elif member.name in overloaded:
            continue
        lines.append(_method(member))
    text = "\n".join(lines) + "\n"
    return text + WITH if name == "BlockingHoldfast" else text


def _is_overload(node: ast.stmt) -> bool:
    decorators = node.decorator_list if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else []
    return any(isinstance(d, ast.Name) and d.id == "overload" for d in decorators)


def _method(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    made = Renaming().visit(ast.parse(ast.unparse(node)).body[0])
    returns = ast.unparse(made.returns)
    if any(isinstance(d, ast.Name) and d.id in ("asynccontextmanager", "contextmanager") for d in node.decorator_list):
        returns = f"AbstractContextManager[{returns.removeprefix('Iterator[').removesuffix(']')}]"
    for defaults in (made.args.defaults, made.args.kw_defaults):
        defaults[:] = [default and ast.Constant(...) for default in defaults]
    return f"    def {made.name}({ast.unparse(made.args)}) -> {returns}: ..."


def main(arguments: list[str]) -> int:
    """Write or check; returns the exit code."""
    text = stub()
    if "--check" in arguments:
        if STUB.read_text() != text:
            print(f"{STUB.relative_to(ROOT)} is not what the classes say: python scripts/blocking_stubs.py")
            return 1
        return 0
    STUB.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
