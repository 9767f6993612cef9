-- base.lua: what the parts of the script share. All of hark's calls are one script, put together from
-- the files *.lua in the order in meson.build; run.lua is its end and says how it is called. A group that
-- only appends is carried out by a shorter one, of base, log and run: the server makes all functions of a
-- script anew for each call, which costs as much as a few events.
--
-- Redis cannot undo what a script wrote. So nothing is written while a call is judged: what it reads
-- comes through `get`, what it writes goes to a table before it, and only `flush` writes, when all is
-- decided. `mark` and `back` undo a part of it.
--
-- One key is declared; the others have names that only the script knows, and the same tag, so that they are on the
-- same node of a cluster. The server replicates and logs what was written, not the script.
--
-- Numbers are text everywhere, as decimals: sequences stay below 2^53, which Lua's numbers hold, and
-- times in nanoseconds do not, so that those are never computed with here.

local P = string.sub(KEYS[1], 1, -4) -- "{hark:NAME}:", from "{hark:NAME}:log"
local sub, find, byte, format, floor = string.sub, string.find, string.byte, string.format, math.floor
local concat, call = table.concat, redis.call

local OK, ENOTFOUND, ECONFLICT, EVERSION, ESTALE, EAGAIN, EINVAL = 0, 1, 2, 3, 4, 5, 6
local op = {} -- by name: takes its arguments, returns the reply, a list from its code on, or that as text

local at = 0
local function arg()
    at = at + 1
    return ARGV[at]
end
local function arg_number()
    return tonumber(arg())
end

local function num(n) -- tostring(1e15) would be "1e+15"
    return format('%d', n)
end

-- Lists as text: of each field its length, a colon, the bytes and a NUL; "-" is a field that is absent.
local heads = {} -- of lengths: Lua writes a number as a fraction, which takes longer than all the rest
local function head(v)
    local len = #v
    local h = heads[len]
    if not h then
        h = num(len) .. ':'
        heads[len] = h
    end
    return h
end
local function join(list, n)
    local out = {}
    for i = 1, n or #list do
        local v = list[i]
        out[i] = v and head(v) .. v .. '\0' or '-'
    end
    return concat(out)
end
local function fields(s, most) -- the first ones, or all
    local list, n, p, len = {}, 0, 1, #s
    while p <= len and n ~= most do
        n = n + 1
        if byte(s, p) == 45 then
            list[n] = false
            p = p + 1
        else
            local colon = find(s, ':', p, true)
            local last = colon + tonumber(sub(s, p, colon - 1))
            list[n] = sub(s, colon + 1, last)
            p = last + 2
        end
    end
    return list, n
end

-- ---- hashes ------------------------------------------------------------------------------------

local written, read, wiped = {}, {}, {} -- by key, then by field; false = there is none
local later, n_later = {}, 0 -- further commands, in order
local undo, n_undo = {}, 0

local function get(key, field)
    local w = written[key]
    local v = w and w[field]
    if v ~= nil then
        return v
    end
    if wiped[key] then
        return false
    end
    local r = read[key]
    if not r then
        r = {}
        read[key] = r
    end
    v = r[field]
    if v == nil then
        v = call('HGET', P .. key, field)
        r[field] = v
    end
    return v
end

-- Several fields of a hash in one go: each call of the server's costs.
local function fetch(key, ...)
    local list, r = call('HMGET', P .. key, ...), {}
    for i = 1, #list do
        r[select(i, ...)] = list[i]
    end
    read[key] = r
end

local function get_number(key, field)
    return tonumber(get(key, field) or 0)
end

local function note(list, field, value)
    n_undo = n_undo + 1
    undo[n_undo] = {list, field, list[field]}
    list[field] = value
end

local function set(key, field, value) -- false removes it
    local w = written[key]
    if not w then
        w = {}
        written[key] = w
    end
    note(w, field, value)
end

local function add(key, field, n)
    set(key, field, num(get_number(key, field) + n))
end

local function get_all(key)
    local all = {}
    if not wiped[key] then
        local list = call('HGETALL', P .. key)
        for i = 1, #list, 2 do
            all[list[i]] = list[i + 1]
        end
    end
    for field, v in pairs(written[key] or {}) do
        all[field] = v or nil
    end
    return all
end

local function wipe(key)
    note(wiped, key, true)
    note(written, key, {})
end

local function command(...)
    note(later, n_later + 1, {...})
    n_later = n_later + 1
end

-- Events that are appended are many, and kept apart: where their arguments begin, what version they are given, and,
-- unless their ids are fresh, which one has a name. Their sequences follow on what the log has.
local n_new, new_at, new_version, placed = 0, {}, {}, {}

local function back(to_undo, to_later, to_new)
    for i = n_undo, to_undo + 1, -1 do
        local u = undo[i]
        u[1][u[2]] = u[3]
        undo[i] = nil
    end
    for i = n_new, to_new + 1, -1 do
        placed[ARGV[new_at[i] + 1]] = nil
    end
    n_undo, n_later, n_new = to_undo, to_later, to_new
end

-- ---- writing -----------------------------------------------------------------------------------

local MOST = 1000 -- arguments of one command; Lua's stack takes some thousands

local function write_hash(key, list)
    local put, gone, n_put, n_gone = {}, {}, 0, 0
    for field, v in pairs(list) do
        if v then
            put[n_put + 1], put[n_put + 2] = field, v
            n_put = n_put + 2
        else
            n_gone = n_gone + 1
            gone[n_gone] = field
        end
    end
    for i = 1, n_gone, MOST do
        call('HDEL', key, unpack(gone, i, math.min(i + MOST - 1, n_gone)))
    end
    for i = 1, n_put, MOST do
        call('HSET', key, unpack(put, i, math.min(i + MOST - 1, n_put)))
    end
end

local function flush()
    for key in pairs(wiped) do
        call('DEL', P .. key)
    end
    for key, list in pairs(written) do
        write_hash(P .. key, list)
    end
    for i = 1, n_later do
        call(unpack(later[i]))
    end
end

-- ---- the clock ---------------------------------------------------------------------------------

local now_us -- the server's wall clock
local function clock()
    if not now_us then
        local t = call('TIME')
        now_us = tonumber(t[1]) * 1000000 + tonumber(t[2])
    end
    return now_us
end

-- ---- who is asking ------------------------------------------------------------------------------

local judging -- nothing is written: what would come of it?
local pinned -- when it was judged before: the reply that it got then
local me -- the process
local gives_up = false -- a dead letter is made

-- On a server without memory signs of life, states of consumers and retention go on, and so does what makes a dead
-- letter, or else floors would stay where they are and retention could free nothing. Only a script's first write is
-- refused there, and this one takes none.
local function need_no_room()
    call('DEL', P .. 'room')
end

-- A new number, never given twice; who judges keeps it for the commit.
local function draw(counter, n)
    return call('HINCRBY', P .. 'log', counter, n)
end

-- Those who wait in `tail` look again. What: 'shares' or 'schedules'.
local hinted = false
local function hint(what)
    add('log', what, 1)
    if not hinted then
        hinted = true
    end
end
local function write_hint()
    if hinted then
        local n = call('HINCRBY', P .. 'log', 'hint', 1)
        call('XADD', P .. 'hint', 'MAXLEN', '1', num(n) .. '-0', 'n', '')
    end
end
