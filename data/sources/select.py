"""Which structures of a stream are kept: unique ones, those that match an expression, a reproducible sample.

Each function takes a stream of structures and gives one: read -> unique -> select -> sample.
"""

from __future__ import annotations

import ast
import hashlib
import heapq
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import InputError, nearest
from ..structure import Structure
from ..support.digest_set import DigestSet
from .names import NAMES, has
from .readers.label_sets import stored_ids
from .report import SourceReport

FUNCTIONS = {"abs": abs, "len": len, "max": max, "min": min, "sum": sum}
OF_THE_STRUCTURE = {"has": has}  # functions that are given the structure first
MAX_LENGTH = 1000  # characters of an expression
MAX_NODES = 300  # of its syntax tree


@dataclass(frozen=True)
class Where:
    """A parsed --where expression: its text, its tree and the names that it uses."""

    text: str
    tree: ast.expr
    names: frozenset[str]


def unique(
    structures: Iterable[Structure], report: SourceReport | None = None, not_in: Sequence[str] = ()
) -> Iterator[Structure]:
    """The first structure of every id; the others are counted in the report. Holds about 20 bytes for each structure.

    not_in: label sets whose structures count as seen already. Raises LabelSetError.
    """
    seen = DigestSet()
    for folder in not_in:
        for key in stored_ids(Path(folder)):
            seen.add(key)
    for structure in structures:
        if seen.add(bytes.fromhex(structure.id)):
            yield structure
        elif report is not None:
            report.n_duplicates += 1


def select(
    structures: Iterable[Structure], where: str | None, report: SourceReport | None = None
) -> Iterator[Structure]:
    """The structures for which the expression is true, e.g. "{'H','C'} >= elements and n_atoms <= 16"; charged ones are counted.

    Names: those of names.py (n_atoms, elements, formula, volume, ...) and the keys of info; has("key"). A structure without a key
    that is used, or without a volume, forces, ..., does not match. The expression is checked at once. Raises InputError, also at
    the end of the stream for a name that no structure had.
    """
    report = SourceReport() if report is None else report
    return _charges_counted(structures if where is None else _matching(structures, parse_where(where), report), report)


def _charges_counted(structures: Iterable[Structure], report: SourceReport) -> Iterator[Structure]:
    for structure in structures:
        report.n_charged += structure.charge != 0
        yield structure


def order_key(seed: int, structure_id: str) -> int:
    """A 64-bit number that puts structures in a random order: a pure function of seed and id, the same everywhere."""
    return int.from_bytes(hashlib.blake2b(f"hdistill order {seed} {structure_id}".encode(), digest_size=8).digest())


def sample(structures: Iterable[Structure], limit: int | None, seed: int) -> Iterator[Structure]:
    """The `limit` structures with the smallest order_key, by ascending key; all of them, as they come, for None.

    A smaller sample is the beginning of a larger one. Holds `limit` structures. Raises InputError.
    """
    if limit is None:
        return iter(structures)
    if limit < 1:
        raise InputError(f"--limit was {limit}; it must be 1 or more.")
    return _smallest(structures, limit, seed)


def parse_where(text: str) -> Where:
    """A --where expression, checked: only comparisons, and/or/not, arithmetic, literals and functions. Raises InputError."""
    if not text.strip() or len(text) > MAX_LENGTH:
        raise InputError(f"--where takes an expression of 1 to {MAX_LENGTH} characters; it got {len(text)}.")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else "it cannot be parsed"
        raise InputError(f"--where `{text}` is not an expression: {reason}.") from error
    nodes = list(ast.walk(tree))
    if len(nodes) > MAX_NODES:
        raise InputError(f"--where `{text[:60]}...` has {len(nodes)} parts; {MAX_NODES} are allowed.")
    called = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
    for node in nodes:
        _check_node(node, text)
    return Where(text, tree, frozenset(n.id for n in nodes if isinstance(n, ast.Name) and id(n) not in called))


_ALLOWED = (
    *(
        ast.BoolOp,
        ast.And,
        ast.Or,
        ast.UnaryOp,
        ast.Not,
        ast.USub,
        ast.UAdd,
        ast.Compare,
        ast.cmpop,
        ast.Name,
        ast.Load,
    ),
    *(ast.Set, ast.List, ast.Tuple, ast.Subscript, ast.Constant, ast.Call),
    *(ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.BitAnd, ast.BitOr, ast.BitXor),
)


def _check_node(node: ast.AST, text: str) -> None:
    """Refuse what can reach outside the expression or can grow without bound (attributes, powers, loops)."""
    if not isinstance(node, _ALLOWED):
        raise InputError(
            f"--where `{text}` uses {type(node).__name__}, which is not allowed; "
            "use comparisons, and, or, not, in, + - * / // %, sets, lists and the names of the structures."
        )
    if isinstance(node, ast.Constant) and not isinstance(node.value, bool | int | float | str | None):
        raise InputError(f"--where `{text}` has the value {node.value!r}; use numbers, strings, True, False or None.")
    if isinstance(node, ast.Call):
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        functions = {**FUNCTIONS, **OF_THE_STRUCTURE}
        if name not in functions or node.keywords:
            called = f"'{name}'" if name else "a method"
            known = ", ".join(functions)
            raise InputError(f"--where `{text}` calls {called}; the functions are {known}.{nearest(name, functions)}")


def _matching(structures: Iterable[Structure], where: Where, report: SourceReport) -> Iterator[Structure]:
    evaluate = _evaluator(where)
    report.n_matching = report.n_matching or 0
    keys = where.names - set(NAMES)
    had: set[str] = set()
    seen: set[str] = set()
    for structure in structures:
        seen.update(structure.info)
        computed = {name: NAMES[name](structure) for name in where.names & set(NAMES)}
        lacking = keys - set(structure.info)
        had |= keys - lacking
        lacking |= {name for name, value in computed.items() if value is None}
        report.lacking.update(lacking)
        if not lacking and evaluate(structure, computed):
            report.n_matching += 1
            yield structure
        else:
            report.n_not_matching += 1
    if keys - had and report.n_not_matching:
        name = min(keys - had)
        known = [*NAMES, *sorted(seen - set(NAMES))]
        raise InputError(
            f"--where `{where.text}`: no structure has '{name}'.{nearest(name, known)} The names are {', '.join(known)}."
        )


def _evaluator(where: Where) -> Callable[[Structure, dict[str, Any]], bool]:
    """The expression as a function of a structure that has all of its names, and of those that were computed. Raises InputError when
    it is called."""
    from simpleeval import DEFAULT_OPERATORS, EvalWithCompoundTypes, InvalidExpression

    operators = {kind: function for kind, function in DEFAULT_OPERATORS.items() if issubclass(kind, _ALLOWED)}
    operators |= {
        ast.Add: _of_numbers(operator.add),
        ast.Mult: _of_numbers(operator.mul),
        ast.Mod: _of_numbers(operator.mod),
    }
    evaluator = EvalWithCompoundTypes(operators=operators, functions=dict(FUNCTIONS))

    def evaluate(structure: Structure, computed: dict[str, Any]) -> bool:
        evaluator.names = {**{name: structure.info[name] for name in where.names - set(computed)}, **computed}
        evaluator.functions |= {name: partial(of, structure) for name, of in OF_THE_STRUCTURE.items()}
        try:
            result = evaluator.eval(where.text, previously_parsed=where.tree)
        except (InvalidExpression, ArithmeticError, TypeError, ValueError, LookupError, RecursionError) as error:
            raise InputError(f"--where `{where.text}` fails for a structure of {structure.group}: {error}.") from error
        if not isinstance(result, bool):
            raise InputError(
                f"--where `{where.text}` gives {result!r} and not true or false; compare it with something, "
                "for example n_atoms <= 16."
            )
        return result

    return evaluate


def _of_numbers(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """The operation for numbers only: on strings and lists it repeats, joins and formats, to any length."""

    def apply(a: Any, b: Any) -> Any:
        if not (isinstance(a, int | float) and isinstance(b, int | float)):
            raise TypeError("+, * and % are for numbers")
        return function(a, b)

    return apply


def _smallest(structures: Iterable[Structure], limit: int, seed: int) -> Iterator[Structure]:
    yield from heapq.nsmallest(limit, structures, key=lambda s: (order_key(seed, s.id), s.id))
