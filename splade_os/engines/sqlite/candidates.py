"""The documents that a filter may let through, from an index over the values of stored fields.

What is found holds every document that passes, and may hold others: the filter itself
(`splade_os.engines.sqlite.filters`) is asked of the best of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from splade_os.engines.sqlite.filters import options

Value = int | float | str | bytes
_ANY = b""
"""In the place of a value that is not kept: a long text, a number over 64 bits, an object."""
_LONGEST = 100  # characters of a text
_COLUMNS = "SELECT document FROM field_values WHERE in_index = ? AND field = ?"
Sql = tuple[str, list[Any]]


def field_values(
    document: Mapping[str, Any], leave_out: Sequence[str], prefix: str = ""
) -> set[tuple[str, Value]]:
    """Field and value of everything in a document, each once.

    Args:
        leave_out: fields that are texts to be searched, not filtered by.
    """
    found: set[tuple[str, Value]] = set()
    for name, given in document.items():
        path = f"{prefix}{name}"
        if path in leave_out:
            continue
        for value in _flat(given):
            if isinstance(value, Mapping):
                found.add((path, _ANY))
                found |= field_values(value, leave_out, f"{path}.")
            elif value is not None:
                found.add((path, _kept(value)))
    return found


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for item in value:
            yield from _flat(item)
    else:
        yield value


def _kept(value: Any) -> Value:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else _ANY
    if isinstance(value, float):
        return value
    return value if isinstance(value, str) and len(value) <= _LONGEST else _ANY


def candidates(
    filters: Sequence[Mapping[str, Any]], number: int, leave_out: Sequence[str]
) -> Sql | None:
    """SQL of the numbers of all documents that may pass, and its values; ``None`` = any may.

    Args:
        filters: clauses that `compile_filter` understands.
        number: of the index.
        leave_out: as for `field_values`.
    """
    known = [sql for f in filters if (sql := _clause(f, number, leave_out)) is not None]
    return _joined(known, "INTERSECT") if known else None


def _joined(parts: Sequence[Sql], operator: str) -> Sql:
    sql = f" {operator} ".join(f"SELECT document FROM ({sql})" for sql, _ in parts)
    return sql, [value for _, values in parts for value in values]


def _clause(clause: Mapping[str, Any], number: int, leave_out: Sequence[str]) -> Sql | None:
    ((kind, body),) = clause.items()
    if kind == "bool":
        return _bool(body, number, leave_out)
    if kind not in ("term", "terms", "range", "exists"):
        return None
    field = str(body["field"]) if kind == "exists" else next(iter(body))
    if any(
        f"{name}.".startswith(f"{field}.") or field.startswith(f"{name}.") for name in leave_out
    ):
        return None
    key = [number, field]
    if kind == "exists":
        return _COLUMNS, key
    if kind == "range":
        return _range(key, body[field])
    spelled = sorted({s for o in options(kind, body[field]) for s in _spelled(o)}, key=repr)
    if len(spelled) > 400 or any(isinstance(s, str) and len(s) > _LONGEST for s in spelled):
        return None
    marks = ",".join("?" * (len(spelled) + 1))
    return f"{_COLUMNS} AND value IN ({marks})", [*key, *spelled, _ANY]


def _bool(body: Mapping[str, Any], number: int, leave_out: Sequence[str]) -> Sql | None:
    def clauses(name: str) -> list[Mapping[str, Any]]:
        given = body.get(name, [])
        return [given] if isinstance(given, Mapping) else list(given)

    needed = clauses("filter") + clauses("must")
    if needed:
        return candidates(needed, number, leave_out)
    should = [_clause(clause, number, leave_out) for clause in clauses("should")]
    known = [sql for sql in should if sql is not None]
    return _joined(known, "UNION ALL") if known and len(known) == len(should) else None


def _spelled(option: Any) -> set[Value]:
    """A value of a filter in every form in which a stored one equals it."""
    found: set[Value] = {str(option), str(option).lower()}
    if isinstance(option, int) and -(2**63) <= option < 2**63:
        found.add(int(option))
    try:
        number = float(option)
    except (ValueError, OverflowError):
        return found
    if number == number:
        found.add(number)
    return found


def _range(key: list[Any], bounds: Mapping[str, Any]) -> Sql:
    signs = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
    given = {name: bound for name, bound in bounds.items() if bound is not None}
    parts: list[Sql] = [(f"{_COLUMNS} AND value IN ('true', 'false', x'')", key)]
    numbers = {name: _number(bound) for name, bound in given.items()}
    # SQLite sorts numbers before texts before bytes
    if None not in numbers.values():
        parts.append(_between(key, signs, numbers, "value < ''"))
    texts = {n: str(b).lower() if isinstance(b, bool) else str(b) for n, b in given.items()}
    parts.append(_between(key, signs, texts, "value >= '' AND value < x''"))
    return _joined(parts, "UNION ALL")


def _between(key: list[Any], signs: Mapping[str, str], bounds: Mapping[str, Any], kind: str) -> Sql:
    limits = "".join(f" AND value {signs[name]} ?" for name in bounds)
    return f"{_COLUMNS} AND {kind}{limits}", [*key, *bounds.values()]


def _number(bound: Any) -> float | int | None:
    if isinstance(bound, int) and not isinstance(bound, bool) and -(2**63) <= bound < 2**63:
        return bound
    try:
        number = float(bound)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if number == number else None
