"""Views of an experiment's records in SQL, for other programs such as SQLite and DuckDB.

Each cell of a view is a plain number or text; nothing has to be decoded. DuckDB reads their SQL
itself, so they are written in what both have. A store that keeps each stream in a table of its
name may have them; they read whatever the tables hold at that moment, and belong to its format:
see the page ``sql`` of the documentation.
"""

from __future__ import annotations

from daskperiment.codec.packed_numbers import AT_ONCE, DIGITS, MOST_DIGITS

__all__ = ["VIEWS"]


def _json(source: str, path: str) -> str:
    return f"CAST({source} -> '{path}' AS TEXT)"


def _member(source: str, path: str, key: str) -> str:
    return f"""CAST({source} -> ('${path}."' || {key} || '"') AS TEXT)"""


def _plain(source: str, path: str, type_: str = "TEXT") -> str:
    """Return the SQL of a field that is text or a number."""
    return f"CAST({source} ->> '{path}' AS {type_})"


def _number(json: str) -> str:
    """Return the SQL of a value's JSON as a number; NULL for what is none, and for inf and nan.

    Only numbers consist of these characters: texts have quotes.
    """
    bare = f"trim({json}, '0123456789+-.eE')"
    return f"""CASE WHEN {json} = 'true' THEN 1e0 WHEN {json} = 'false' THEN 0e0
    WHEN {bare} = '' THEN CAST({json} AS DOUBLE) END"""


def _text(json: str) -> str:
    """Return the SQL of a value's JSON as text; of what is nested, it stays JSON."""
    kind, value = _plain(json, '$."$"'), _plain(json, "$.v")
    return f"""CASE substr({json}, 1, 1) WHEN '"' THEN {_plain(json, "$")}
    WHEN '{{' THEN CASE {kind} WHEN 'object' THEN {_plain(json, "$.repr")}
    WHEN 'float' THEN {value} WHEN 'tuple' THEN {value} ELSE {json} END
    WHEN 't' THEN 'True' WHEN 'f' THEN 'False' WHEN 'n' THEN 'None' ELSE {json} END"""


def _both(json: str, name: str) -> str:
    number, text = (name, f"{name}_text") if name != "value" else ("value", "text")
    return f"{_number(json)} AS {number}, {_text(json)} AS {text}"


_BEGUN = "(SELECT trial, body FROM <trials> t WHERE id = 'begun') b"
# Of several ends of a trial success outweighs the others, then the first holds.
_ENDED = """(SELECT trial, body, CAST(body -> '$.value' AS TEXT) AS v,
    row_number() OVER (PARTITION BY trial ORDER BY
    CASE body ->> '$.status'
    WHEN 'succeeded' THEN 0 WHEN 'pruned' THEN 1 WHEN 'failed' THEN 2 ELSE 3 END,
    CAST(body ->> '$.finished' AS DOUBLE)) AS place
    FROM <trials> t WHERE id >= 'ended-' AND id < 'ended.') e"""


# Runs of points, as `PointRun` has them, are of numbers alone.
def _epoch(place: str) -> str:
    first, step = (_plain("r.value", f"$[{at}]", "BIGINT") for at in (1, 2))
    return f"({first} + {place} * {step})"


_EPOCH = _epoch("CAST(p.key AS BIGINT)")


def _divisor(place: int) -> str:
    return f"coalesce({_plain('r.value', f'$[5][{place}]', 'DOUBLE')}, 1e0)"


_VALUE = f"CAST(p.value AS DOUBLE) / {_divisor(0)} / {_divisor(1)}"
_VALUE_TEXT = f"""CASE WHEN {_divisor(0)} = 1e0 THEN CAST(p.value AS TEXT)
    ELSE CAST({_VALUE} AS TEXT) END"""


def _time(place: str) -> str:
    milliseconds = f"CAST(r.value ->> ('$[6][' || {place} || ']') AS DOUBLE)"
    return f"({_plain('r.value', '$[3]', 'DOUBLE')} + coalesce({milliseconds}, 0e0) / 1000e0)"


# Those of packed numbers, as `PackedNumbers` has them: a digit is looked up in the list of all.
_PLACES = f"[{','.join(map(str, range(AT_ONCE)))}]"
_SIZE = f"coalesce({_plain('r.value', '$[7]', 'BIGINT')}, 0)"
_TEXT = """trim(CAST(p.value AS TEXT), '"')"""
_PLACE = "CAST(k.key AS BIGINT)"
_SPELLED = f"""(SELECT b.trial AS trial, r.value AS run,
    {AT_ONCE} * CAST(p.key AS BIGINT) + {_PLACE} AS place,
    {_plain("r.value", "$[8]", "BIGINT")} AS bits,
    substr({_TEXT}, 1 + {_PLACE} * {_SIZE}, {_SIZE}) || '{DIGITS[0] * MOST_DIGITS}' AS spelled
    FROM points b, json_each(b.body, '$.runs') r, json_each(r.value, '$[4]') p,
    json_each('{_PLACES}') k
    WHERE json_valid(b.body) AND {_SIZE} > 0 AND {_PLACE} * {_SIZE} < length({_TEXT})) s"""
_CODE = " + ".join(
    f"CAST(instr('{DIGITS}', substr(spelled, {place + 1}, 1)) - 1 AS BIGINT) * {90**place}"
    for place in range(MOST_DIGITS)
)
_CODES = f"""(SELECT trial, run AS value, place, bits,
    CASE WHEN bits < 0 THEN 0 ELSE bits END AS used, {_CODE} AS code FROM {_SPELLED}) c"""
# Whole numbers are not shifted: DuckDB minds if that is by more bits than there are.
_KINDS = f"""(SELECT trial, value, place, bits, used, code,
    CASE WHEN bits < 0 THEN 0 ELSE code >> used END AS kind FROM {_CODES}) c"""
_LOW = "(code & ((CAST(1 AS BIGINT) << used) - 1))"
_PARTS = f"""(SELECT trial, value, place, bits, code, kind,
    CASE WHEN kind < 2 THEN {_LOW} ELSE 0 END AS mark,
    CAST((CAST(1 AS BIGINT) << used) + {_LOW} AS DOUBLE)
    * CAST(CAST(1 AS BIGINT) << (kind >> 1) AS DOUBLE) AS size FROM {_KINDS}) r"""
_WHOLE = f"{_plain('r.value', '$[9]', 'BIGINT')} + code"
_UNPACKED = f"""CASE WHEN bits < 0 THEN CAST({_WHOLE} AS DOUBLE)
    WHEN mark > 0 THEN NULL WHEN kind < 2 THEN 0e0
    ELSE (1 - 2 * (kind & 1)) * size * 0.5e0 * {_plain("r.value", "$[9]", "DOUBLE")} END"""


def _columns(source: str, **columns: str) -> str:
    """Return the SQL of columns that are fields, each given as its path or as path and type."""
    parts = (text.partition(" ") for text in columns.values())
    return ", ".join(
        f"{_plain(source, f'$.{path}', type_ or 'TEXT')} AS {name}"
        for name, (path, _, type_) in zip(columns, parts, strict=True)
    )


VIEWS = {
    "v_history": f"""SELECT b.trial AS trial, {_columns("b.body", step="result")},
    coalesce({_plain("e.body", "$.status")}, 'unfinished') AS status,
    {_both("e.v", "result")},
    {_columns("b.body", started="started DOUBLE")},
    {
        _columns(
            "e.body",
            finished="finished DOUBLE",
            seconds="elapsed DOUBLE",
            error="failure.description",
        )
    },
    {_columns("b.body", seed="seed", sweep="sweep", host="origin.host", username="origin.user")}
    FROM {_BEGUN} LEFT JOIN {_ENDED} ON e.trial = b.trial AND e.place = 1""",
    "v_results": f"""SELECT trial, name, {_both("v", "value")} FROM (
    SELECT e.trial AS trial, CAST(r.key AS TEXT) AS name, {_member("e.v", "", "r.key")} AS v
    FROM {_ENDED}, json_each(e.body, '$.value') r
    WHERE e.place = 1 AND substr(e.v, 1, 1) = '{{'
    AND instr(r.key, '"') = 0 AND {_json("e.v", '$."$"')} IS NULL
    UNION ALL SELECT e.trial, CAST(r.key AS TEXT), {_member("e.v", ".parts", "r.key")}
    FROM {_ENDED}, json_each(e.body, '$.value.parts') r
    WHERE e.place = 1 AND substr(e.v, 1, 1) = '{{'
    AND instr(r.key, '"') = 0 AND {_plain("e.v", '$."$"')} = 'object') r""",
    "v_parameters": f"""SELECT trial, name, {_both("v", "value")} FROM (
    SELECT b.trial AS trial, CAST(p.key AS TEXT) AS name,
    {_member("b.body", ".parameters", "p.key")} AS v
    FROM {_BEGUN}, json_each(b.body, '$.parameters') p WHERE instr(p.key, '"') = 0
    UNION ALL SELECT e.trial, {_plain("e.body", "$.name")}, {_json("e.body", "$.value")}
    FROM <trials> e WHERE e.id >= 'computed-' AND e.id < 'computed.') p""",
    "v_metrics": f"""SELECT trial, metric, {_both("e", "epoch")}, {_both("v", "value")}, time FROM (
    SELECT b.trial AS trial, {_plain("p.value", "$[0]")} AS metric,
    {_json("p.value", "$[1]")} AS e, {_json("p.value", "$[2]")} AS v,
    {_plain("p.value", "$[3]", "DOUBLE")} AS time
    FROM points b, json_each(b.body, '$.points') p WHERE json_valid(b.body)) p
    UNION ALL SELECT b.trial, {_plain("r.value", "$[0]")},
    CAST({_EPOCH} AS DOUBLE), CAST({_EPOCH} AS TEXT),
    {_VALUE}, {_VALUE_TEXT}, {_time("p.key")}
    FROM points b, json_each(b.body, '$.runs') r, json_each(r.value, '$[4]') p
    WHERE json_valid(b.body) AND {_SIZE} = 0
    UNION ALL SELECT trial, metric, CAST(epoch AS DOUBLE), CAST(epoch AS TEXT), number,
    CASE WHEN bits < 0 THEN whole WHEN mark = 1 THEN 'nan' WHEN mark > 0 AND kind = 1 THEN '-inf'
    WHEN mark > 0 THEN 'inf' ELSE CAST(number AS TEXT) END, time FROM (
    SELECT trial, {_plain("r.value", "$[0]")} AS metric, {_epoch("place")} AS epoch,
    {_time("place")} AS time, bits, mark, kind, {_UNPACKED} AS number,
    CASE WHEN bits < 0 THEN CAST({_WHOLE} AS TEXT) END AS whole FROM {_PARTS}) u""",
    "v_steps": f"""SELECT b.trial AS trial, {
        _columns(
            "b.body",
            step="step",
            call="key",
            status="status",
            started="started DOUBLE",
            seconds="wall DOUBLE",
            cpu_seconds="cpu DOUBLE",
            peak_bytes="peak BIGINT",
            host="host",
            reused_from="reused BIGINT",
        )
    } FROM <steps> b""",
    "v_artifacts": f"""SELECT b.trial AS trial, {
        _columns(
            "b.body",
            step="step",
            name="name",
            format="value.format",
            bytes="value.size BIGINT",
            digest="value.digest",
            added="added DOUBLE",
        )
    } FROM <notes> b WHERE b.id >= 'artifact-' AND b.id < 'artifact.'""",
    "v_remarks": f"""SELECT b.trial AS trial, {
        _columns(
            "b.body",
            time="time DOUBLE",
            username="user",
            tags="tags",
            untags="untags",
            note="remark",
            name="name",
        )
    }, CAST({_number(_json("b.body", "$.archived"))} AS INTEGER) AS archived
    FROM <notes> b WHERE b.id >= 'curated-' AND b.id < 'curated.'""",
}
"""Name of a view -> what it selects, in SQL that SQLite and DuckDB both have.

In the place of ``<trials>`` a store puts a view with the columns ``trial``, ``id`` and ``body`` of
that stream, without bodies that are no JSON.
"""
