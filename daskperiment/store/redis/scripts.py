"""The scripts that run inside a Redis server, where a call must be atomic and one round trip.

All keys of an experiment share the prefix ``daskperiment:{<id>}:`` and so one hash slot. Each
script is given one key under that prefix; it derives the others from it.
"""

from __future__ import annotations

from hashlib import sha1
from typing import NamedTuple

from daskperiment.records import BEGUN

__all__ = [
    "ALLOCATE",
    "APPEND",
    "DISCARD",
    "FIND",
    "PAGE",
    "SEAL",
    "SELECT",
    "SIZES",
    "STATE",
    "Script",
]


class Script(NamedTuple):
    """A Lua script and the name under which a server caches it."""

    text: str
    sha: str


def _script(*parts: str) -> Script:
    text = "".join(parts)
    return Script(text, sha1(text.encode(), usedforsecurity=False).hexdigest())


# One index hash serves a few trials: that shares out the cost of a key. Points and heartbeats
# can be many in one trial, so that each trial has its own.
_INDEX = """
local prefix = string.match(KEYS[1], '^(.-}:)')
local function index(stream, trial)
    local width = (stream == 'points' or stream == 'beats') and 1 or 16
    return prefix .. 'index:' .. stream .. ':' .. math.floor((trial + width - 1) / width)
end
"""

ALLOCATE = _script(
    _INDEX,
    f"local begun = ':{BEGUN}'",
    """
local time = redis.call('TIME')
local known = redis.call('HGET', prefix .. 'tokens', ARGV[1])
if known then return {tonumber(known) or error('not an integer'), 0, time[1], time[2]} end
local trial = redis.call('HINCRBY', KEYS[1], 'latest', 1)
local place = redis.call('HINCRBY', KEYS[1], 'stream:trials', 1)
redis.call('XADD', prefix .. 'stream:trials', place .. '-0', trial .. begun, ARGV[2])
redis.call('HSET', index('trials', trial), trial .. begun, place)
redis.call('HSET', prefix .. 'tokens', ARGV[1], trial)
return {trial, 1, time[1], time[2]}
""",
)
"""Counters; token, body -> trial, whether it is new, seconds, microseconds."""

APPEND = _script(
    _INDEX,
    """
local known = {}
for i = 1, #ARGV, 3 do
    local stream, member = ARGV[i], ARGV[i + 1]
    local hash = index(stream, tonumber(string.match(member, '^%d+')))
    local place = redis.call('HGET', hash, member)
    if not place then
        place = redis.call('HINCRBY', KEYS[1], 'stream:' .. stream, 1)
        redis.call('XADD', prefix .. 'stream:' .. stream, place .. '-0', member, ARGV[i + 2])
        redis.call('HSET', hash, member, place)
    elseif stream == 'outputs' then
        local name = place .. '-0'
        local entry = redis.call('XRANGE', prefix .. 'stream:outputs', name, name)[1]
        known[#known + 1] = (i - 1) / 3
        known[#known + 1] = entry and entry[2][2] or false
    end
end
return known
""",
)
"""Counters; stream, trial:id, body, … -> number of a known output in the batch, its body, …"""

# A reply is two strings, sizes and bytes: a driver written in Python is slow with many small ones.
_ENTRIES = """
local sizes, pieces, used = {}, {}, 0
local function add(entry)
    local name, member, body = entry[1], entry[2][1], entry[2][2]
    local n = #pieces
    pieces[n + 1], pieces[n + 2], pieces[n + 3] = name, member, body
    sizes[#sizes + 1] = struct.pack('<I4I4I4', #name, #member, #body)
    used = used + #body + 32
end
local function reply(state) return {state, table.concat(sizes), table.concat(pieces)} end
"""

PAGE = _script(
    _ENTRIES,
    """
local after, budget = tonumber(ARGV[1]), tonumber(ARGV[2])
local count = 16
repeat
    local entries = redis.call('XRANGE', KEYS[1], (after + 1) .. '-0', '+', 'COUNT', count)
    for _, entry in ipairs(entries) do add(entry) end
    if #entries < count then return reply(1) end
    after = tonumber(string.match(entries[count][1], '^%d+'))
    count = math.max(1, math.min(512, math.floor((budget - used) * #sizes / used)))
until used >= budget
return reply(0)
""",
)
"""Stream; position before the first, bytes -> whether it is the end, three sizes each, entries."""

SELECT = _script(
    _INDEX,
    _ENTRIES,
    """
local stream, after, upto, budget = ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local wanted, hashes, places = {}, {}, {}
for trial in string.gmatch(ARGV[2], '%d+') do
    wanted[trial] = true
    hashes[index(stream, tonumber(trial))] = true
end
for hash in pairs(hashes) do
    local pairs_ = redis.call('HGETALL', hash)
    for i = 1, #pairs_, 2 do
        local place = tonumber(pairs_[i + 1])
        if place > after and place <= upto and wanted[string.match(pairs_[i], '^%d+')] then
            places[#places + 1] = place
        end
    end
end
table.sort(places)
for i, place in ipairs(places) do
    local name = place .. '-0'
    local entry = redis.call('XRANGE', KEYS[1], name, name)[1]
    if not entry then return {-1, '', name} end
    add(entry)
    if used >= budget and i < #places then return reply(0) end
end
return reply(1)
""",
)
"""Stream; its name, trials, position before the first, last position, bytes -> as ``PAGE``."""

FIND = _script(
    _INDEX,
    _ENTRIES,
    """
local budget = tonumber(ARGV[1])
local hash = index('outputs', 0)
for i = 2, #ARGV do
    local place = redis.call('HGET', hash, '0:' .. ARGV[i])
    if place then
        local name = place .. '-0'
        local entry = redis.call('XRANGE', prefix .. 'stream:outputs', name, name)[1]
        if not entry then return {-1, '', ARGV[i]} end
        add(entry)
        if used >= budget then return reply(i - 1) end
    end
end
return reply(#ARGV - 1)
""",
)
"""Counters; bytes, ids of outputs -> how many ids were looked for, as ``PAGE``."""

# The head of a large object is one short string; a head that is neither is nobody's.
_HEAD = """
local prefix = string.match(KEYS[1], '^(.-}:)')
local function head(key)
    local text = redis.call('GETRANGE', key, 0, 63)
    local size, step = string.match(text, '^#(%d+) (%d+)$')
    return string.sub(text, 1, 1), tonumber(size), tonumber(step)
end
"""

SIZES = _script(
    _HEAD,
    """
local sizes = {}
for i = 1, #ARGV do
    local key = prefix .. 'object:' .. ARGV[i]
    local kind, size = head(key)
    if kind == '' then sizes[i] = -1
    elseif kind == '=' then sizes[i] = redis.call('STRLEN', key) - 1
    else sizes[i] = size or -2 end
end
return sizes
""",
)
"""Counters; digests -> their sizes; -1 where there is no object, -2 where there is no head."""

DISCARD = _script(
    _HEAD,
    """
for i = 1, #ARGV do
    local key = prefix .. 'object:' .. ARGV[i]
    local _, size, step = head(key)
    redis.call('UNLINK', key)
    for offset = 0, (size or 0) - 1, step or 1 do
        redis.call('UNLINK', key .. ':' .. string.format('%.0f', offset))
    end
end
""",
)
"""Counters; digests."""

SEAL = _script(
    """
local size, step = tonumber(ARGV[1]), tonumber(ARGV[2])
for offset = 0, size - 1, step do
    local key = KEYS[1] .. ':' .. string.format('%.0f', offset)
    if redis.call('EXISTS', key) == 0 then return 0 end
end
redis.call('SET', KEYS[1], '#' .. ARGV[1] .. ' ' .. ARGV[2])
return 1
"""
)
"""Object; size, chunk size -> 0 if a chunk is missing, else the head is written."""

STATE = _script(
    """
local time = redis.call('TIME')
return {redis.call('HGET', KEYS[1], 'latest') or '0', time[1], time[2]}
"""
)
"""Counters -> latest trial as text, seconds, microseconds."""
