"""The scripts that run inside a Redis server, where a call must be atomic and one round trip.

All keys of an experiment share the prefix ``daskperiment:{<id>}:`` and so one hash slot. Each
script is given every key that it touches: while a slot moves from one node of a cluster to another,
a node that has only some of them says so, and nothing is written beside what is on its way.
"""

from __future__ import annotations

from hashlib import sha1
from typing import NamedTuple

from daskperiment.records import BEGUN

__all__ = [
    "ALLOCATE",
    "APPEND",
    "CHUNK",
    "DELETE",
    "ERASE",
    "EXCERPT",
    "FIND",
    "PAGE",
    "REMOVE",
    "ROOM",
    "SEAL",
    "SET_ASIDE",
    "SELECT",
    "SIZES",
    "STARTING",
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


_STANDING = """
local function standing(numbers, token, places, id)
    if token == '' then return 1 end
    local number = redis.call('HGET', numbers, token)
    local gone = redis.call('HGET', numbers, 'removed:' .. token)
    if gone == string.match(id, '^%d+') then return 1 end
    local place = redis.call('HGET', places, id)
    return place and number == string.match(id, '^%d+') and 1 or 0
end
"""
"""Whether a known record is there, and its trial has the id that it had; 1 if none is known."""

ALLOCATE = _script(
    _STANDING,
    f"local begun = ':{BEGUN}'",
    """
local width = tonumber(ARGV[3])
local time = redis.call('TIME')
local stands = standing(KEYS[2], ARGV[5], KEYS[4], ARGV[6])
local known = redis.call('HGET', KEYS[2], ARGV[1])
    or redis.call('HGET', KEYS[2], 'removed:' .. ARGV[1])
local function number_of(text)
    local whole = #text < 16 and string.match(text, '^%d+$')
    return whole and tonumber(text) or error('not an integer')
end
if known then return {number_of(known), 0, time[1], time[2], stands} end
local trial = number_of(redis.call('HGET', KEYS[1], 'latest') or '0') + 1
local number = math.floor((trial + width - 1) / width) - tonumber(ARGV[4])
local index = KEYS[5 + number]
if number < 0 or not index then return {0, trial} end
redis.call('HSET', KEYS[1], 'latest', trial)
local place = redis.call('HINCRBY', KEYS[1], 'stream:trials', 1)
redis.call('XADD', KEYS[3], place .. '-0', trial .. begun, ARGV[2])
redis.call('HSET', index, trial .. begun, place)
redis.call('HSET', KEYS[2], ARGV[1], trial)
return {trial, 1, time[1], time[2], stands}
""",
)
"""Counters, tokens, stream of trials, index of the known record, some indexes of trials in order;
token, body, trials per index, number of the first index, known record's token, its member ->
trial, whether it is new, seconds, microseconds, whether the known record is there; or 0 and the
next trial, if its index is not among those."""

APPEND = _script(
    """
local owners = tonumber(ARGV[1])
local strangers = {}
for i = 2, owners * 2, 2 do
    local number = redis.call('HGET', KEYS[2], ARGV[i + 1])
    if number ~= ARGV[i] then
        strangers[#strangers + 1] = i / 2 - 1
        strangers[#strangers + 1] = number or ''
    end
end
if #strangers > 0 then return {0, strangers} end
local known = {}
local first = owners * 2 + 2
for i = first, #ARGV, 5 do
    local stream, member = ARGV[i + 2], ARGV[i + 3]
    local entries, hash = KEYS[tonumber(ARGV[i])], KEYS[tonumber(ARGV[i + 1])]
    local place = redis.call('HGET', hash, member)
    if not place then
        place = redis.call('HINCRBY', KEYS[1], 'stream:' .. stream, 1)
        redis.call('XADD', entries, place .. '-0', member, ARGV[i + 4])
        redis.call('HSET', hash, member, place)
    elseif stream == 'outputs' then
        local name = place .. '-0'
        local entry = redis.call('XRANGE', entries, name, name)[1]
        known[#known + 1] = (i - first) / 5
        known[#known + 1] = entry and entry[2][2] or false
    end
end
return {1, known}
""",
)
"""Counters, tokens, streams and indexes; number of owners, trial, token, … of each, then place
among the keys of stream and index, stream, trial:id, body, … of each record -> 1 and number of a
known output in the batch, its body, …; or 0 and number of an owner that is not there, the trial
that its token has, …"""

REMOVE = _script(
    """
local token, trial, marker = ARGV[1], ARGV[2], ARGV[3]
local gone = 'removed:' .. token
if redis.call('HGET', KEYS[2], token) == trial then
    redis.call('HDEL', KEYS[2], token)
    redis.call('HSET', KEYS[2], gone, trial)
elseif redis.call('HGET', KEYS[2], gone) ~= trial then
    return redis.call('HGET', KEYS[2], token) or ''
end
for i = 3, #KEYS, 2 do
    local found = redis.call('HGETALL', KEYS[i + 1])
    for k = 1, #found, 2 do
        if found[k] ~= marker and string.match(found[k], '^%d+') == trial then
            redis.call('XDEL', KEYS[i], found[k + 1] .. '-0')
            redis.call('HDEL', KEYS[i + 1], found[k])
        end
    end
end
if not redis.call('HGET', KEYS[4], marker) then
    local place = redis.call('HINCRBY', KEYS[1], 'stream:trials', 1)
    redis.call('XADD', KEYS[3], place .. '-0', marker, ARGV[4])
    redis.call('HSET', KEYS[4], marker, place)
end
return 1
""",
)
"""Counters, tokens, stream of trials, its index, another stream, its index, …; token, trial,
trial:id of the marker, its body -> 1, or the trial that the token has if it is not this one."""

ERASE = _script(
    """
for _, id in ipairs(ARGV) do
    local place = redis.call('HGET', KEYS[2], '0:' .. id)
    if place then
        redis.call('XDEL', KEYS[1], place .. '-0')
        redis.call('HDEL', KEYS[2], '0:' .. id)
    end
end
return 1
""",
)
"""Stream, its index; ids of records of trial 0, which are removed."""

DELETE = _script(
    """
if ARGV[3] == '1' then
    local there = redis.call('HGETALL', KEYS[1])
    if #there ~= #ARGV - 3 then return 0 end
    for i = 1, #there do
        if there[i] ~= ARGV[i + 3] then return 0 end
    end
end
for i = 3, #KEYS do redis.call('UNLINK', KEYS[i]) end
redis.call('UNLINK', KEYS[1])
local named = redis.pcall('SET', KEYS[2], ARGV[1], 'EX', ARGV[2])
return named.err and 2 or 1
""",
)
"""Counters, name of the last deletion, other keys; name of this one, seconds for which it stays,
whether the counters must be as follows, their fields and values -> 0 if they are not; else all
keys are removed, and it is 1, or 2 of a full server that does not take the name."""

SET_ASIDE = _script(
    """
local entry = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
if not entry then return 0 end
local member = entry[2][1]
redis.call('HSET', KEYS[3], ARGV[2] .. ':' .. ARGV[1] .. ':' .. member, entry[2][2])
if (redis.call('HGET', KEYS[2], member) or '') .. '-0' == ARGV[1] then
    redis.call('HDEL', KEYS[2], member)
end
return redis.call('XDEL', KEYS[1], ARGV[1])
""",
)
"""Stream, index, records that were set aside; name of the entry, stream -> how many were moved."""

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

STARTING = _script(
    _ENTRIES,
    """
local after, budget, start = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local count, seen = 16, 0
local function reached(state)
    local answer = reply(state)
    answer[4] = after
    return answer
end
repeat
    local entries = redis.call('XRANGE', KEYS[1], (after + 1) .. '-0', '+', 'COUNT', count)
    for _, entry in ipairs(entries) do
        local member = entry[2][1]
        local at = string.find(member, ':', 1, true)
        used = used + #entry[2][2] / 4 + 8
        if not at or string.sub(member, at + 1, at + #start) == start then add(entry) end
    end
    seen = seen + #entries
    if #entries < count then return reached(1) end
    after = tonumber(string.match(entries[count][1], '^%d+'))
    count = math.max(1, math.min(512, math.floor((budget - used) * seen / used)))
until used >= budget
return reached(0)
""",
)
"""Stream; position before the first, bytes, beginning of ids -> as ``PAGE``, and the last place
that was looked at."""

_PLACES = """
local after, upto, budget = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local start = ARGV[5]
local wanted, places = {}, {}
for trial in string.gmatch(ARGV[1], '%d+') do wanted[trial] = true end
for key = 2, #KEYS do
    local pairs_ = redis.call('HGETALL', KEYS[key])
    for i = 1, #pairs_, 2 do
        local place = tonumber(pairs_[i + 1])
        if place > after and place <= upto and wanted[string.match(pairs_[i], '^%d+')]
            and string.sub(pairs_[i], 1, #start) == start then
            places[#places + 1] = place
        end
    end
end
table.sort(places)
"""

SELECT = _script(
    _ENTRIES,
    _PLACES,
    """
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
"""Stream, its indexes; trials, position before the first, last position, bytes, beginning of
trial:id -> as ``PAGE``."""

EXCERPT = _script(
    _ENTRIES,
    _PLACES,
    r"""
local mark = ARGV[6]
local function has_text(piece)
    for i = 7, #ARGV do
        if string.find(piece, ARGV[i], 1, true) then return true end
    end
    return false
end
local function excerpt(body)
    local found = has_text(body)
    local stop = string.find(body, mark, 1, true)
    if not stop then
        return (found or string.find(body, '\\', 1, true)) and body or nil
    end
    if not found then return nil end
    local parts, begin = {}, 1
    while stop do
        local block = string.sub(body, begin, stop + #mark - 1)
        if has_text(block) then parts[#parts + 1] = block end
        begin = stop + #mark
        stop = string.find(body, mark, begin, true)
    end
    parts[#parts + 1] = string.sub(body, begin)
    return table.concat(parts)
end
for i, place in ipairs(places) do
    local name = place .. '-0'
    local entry = redis.call('XRANGE', KEYS[1], name, name)[1]
    if not entry then return {-1, '', name} end
    local size = #entry[2][2]
    entry[2][2] = excerpt(entry[2][2])
    if entry[2][2] then add(entry) end
    used = used + size / 4
    if used >= budget and i < #places then
        local state = reply(0)
        state[4] = place
        return state
    end
end
return reply(1)
""",
)
"""As ``SELECT``, and then a mark and texts -> as ``SELECT``, and the last place that was looked at.
Bodies are looked at in a fraction of the time that it takes to send them."""

FIND = _script(
    _ENTRIES,
    """
local budget = tonumber(ARGV[1])
for i = 2, #ARGV do
    local place = redis.call('HGET', KEYS[2], '0:' .. ARGV[i])
    if place then
        local name = place .. '-0'
        local entry = redis.call('XRANGE', KEYS[1], name, name)[1]
        if not entry then return {-1, '', ARGV[i]} end
        add(entry)
        if used >= budget then return reply(i - 1) end
    end
end
return reply(#ARGV - 1)
""",
)
"""Stream of outputs, its index; bytes, ids -> how many ids were looked for, as ``PAGE``."""

SIZES = _script(
    """
local sizes = {}
for i, key in ipairs(KEYS) do
    -- The head of a large object is one short string; a head that is neither is nobody's.
    local text = redis.call('GETRANGE', key, 0, 63)
    local size, step = string.match(text, '^#(%d+) (%d+)$')
    local kind = string.sub(text, 1, 1)
    if kind == '' then size = -1
    elseif kind == '=' then size, step = redis.call('STRLEN', key) - 1, 0
    end
    sizes[i * 2 - 1], sizes[i * 2] = tonumber(size or -2), tonumber(step or 0)
end
return sizes
""",
)
"""Objects -> size and chunk size of each; the size is -1 where there is no object, -2 where there
is no head, the chunk size 0 where there are no chunks."""

CHUNK = _script(
    """
return {redis.call('EXISTS', KEYS[1]), redis.call('GET', KEYS[2])}
""",
)
"""Object, chunk -> whether the object is there, and the chunk, at one moment."""

SEAL = _script(
    """
for i = 2, #KEYS do
    if redis.call('EXISTS', KEYS[i]) == 0 then return 0 end
end
redis.call('SET', KEYS[1], '#' .. ARGV[1] .. ' ' .. ARGV[2])
return 1
"""
)
"""Object, its chunks; size, chunk size -> 0 if a chunk is missing, else the head is written."""

ROOM = _script(
    """
if redis.call('EXISTS', KEYS[1]) == 1 then return 1 end
local info = redis.pcall('INFO', 'memory')
if type(info) == 'string' and string.find(info, 'maxmemory_policy:noeviction', 1, true) then
    local most = tonumber(string.match(info, 'maxmemory:(%d+)'))
    local used = tonumber(string.match(info, 'used_memory:(%d+)'))
    if most and used and most > 0 and used + ARGV[1] > most then
        return redis.error_reply("OOM no room for " .. ARGV[1] .. " bytes: 'maxmemory' is "
            .. most .. ", used are " .. used .. ".")
    end
end
return 0
"""
)
"""Object; its size -> whether it is there; an error of a full server if there is no room for it.
A user may not be allowed to ask how much there is: then its chunks find out."""

STATE = _script(
    _STANDING,
    """
local time = redis.call('TIME')
local stands = standing(KEYS[2], ARGV[1], KEYS[3], ARGV[2])
return {redis.call('HGET', KEYS[1], 'latest') or '0', time[1], time[2], stands}
""",
)
"""Counters, tokens, index of the known record; its token, its member -> latest trial as text,
seconds, microseconds, whether the known record is there."""
