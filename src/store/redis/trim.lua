-- trim.lua: retention: a slice of the log, walked from the oldest on. What somebody has yet to see stays,
-- unless it is forced.

local MOST_WALKED = 256

-- Sequences that are open anywhere, of the consumers of a slice; the state of each, by consumer.
local function open_rows(consumers, from, to)
    local rows = {}
    for i = 1, #consumers do
        local id = consumers[i]
        for share = 0, get_number('c:' .. id, 'shares') - 1 do
            local key = 'r:' .. id .. ':' .. share
            for seq in pairs(get_all(key)) do
                local n = tonumber(seq)
                if n >= from and n <= to then
                    rows[seq] = rows[seq] or {}
                    rows[seq][id] = key
                end
            end
        end
    end
    return rows
end

-- The lowest place that a replay has come to whose process lives; nil = there is none.
local function replays_hold()
    local lowest
    for _, value in pairs(get_all('rp')) do
        local r = fields(value)
        if r[1] ~= '' and until_of(r[1]) >= now_ms() then
            local position = tonumber(fields(r[2], 1)[1])
            lowest = lowest and math.min(lowest, position) or position
        end
    end
    return lowest
end

-- When it is forced, the row goes too; but heads of parked lanes and what is being redriven have their own
-- copy of the event.
local function drop_rows(seq, rows)
    for id, key in pairs(rows or {}) do
        local head = fields(get(key, seq), 1)[1] == DEAD
        for letter in string.gmatch(get('ls:' .. id, seq) or '', '%d+') do
            head = head or get('lt', letter)
        end
        if not head then
            set(key, seq, false)
        end
    end
end

local function remove(seq, e, rows, consumers)
    local envelope = envelope_of(e)
    local key = envelope[E_VERSION] .. ':' .. type_of(e)
    tally[key] = (tally[key] or 0) - 1
    set('i', envelope[E_SOURCE] .. '\0' .. envelope[E_ID], false)
    command('XDEL', P .. 's', seq .. '-0')
    drop_rows(seq, rows)
    for i = 1, #consumers do
        local id = consumers[i]
        if get('a:' .. id, seq) and not get('ls:' .. id, seq) then
            set('a:' .. id, seq, false)
        end
    end
end

-- The first block from one on in which one of these types occurs.
local function skip_to(from, types)
    local block = num(floor(from / BLOCK))
    local first
    for type in pairs(types) do
        local b = call('ZRANGEBYSCORE', P .. 'b:' .. type, block, '+inf', 'LIMIT', '0', '1')[1]
        if b and (not first or tonumber(b) < first) then
            first = tonumber(b)
        end
    end
    return first and math.max(from, first * BLOCK)
end

-- For readers: from where, how many types, the types: where the next block with one of them begins; 0 = there
-- is none.
function op.skip()
    local from, types = arg_number(), {}
    for _ = 1, arg_number() do
        types[arg()] = true
    end
    return {'0', num(skip_to(from, types) or 0)}
end

-- How many of these types there are.
local function count_of(types)
    local n = 0
    for kind, text in pairs(get_all('t')) do
        if types[sub(kind, find(kind, ':', 1, true) + 1)] then
            n = n + tonumber(fields(text, 1)[1])
        end
    end
    return n
end

-- Where the log begins without what goes of a slice that it began with.
local function move_first(list, stays)
    local start = call('XRANGE', P .. 's', '-', '+', 'COUNT', '1')[1]
    if start[1] ~= list[1][1] then
        return
    end
    if not stays then
        local e = call('XRANGE', P .. 's', num(id_of(list[#list]) + 1) .. '-0', '+', 'COUNT', '1')[1]
        stays = e and id_of(e) or 0
    end
    set('log', 'first', num(stays))
end

-- From where, and how far at most, or 0; by age, all below this sequence; by number, so many of these types stay, or 0,
-- and so many stayed of those that were walked already (how many there are is looked at here: others may be at it, too,
-- and this may be the second time that it is asked); a sequence from which on all is held, or 0; forced or not;
-- whether all types are meant; `terms`, as they were looked at; how many types, and of each its name and how many
-- consumers want it, and these. OK: the next place, how many went, how many stayed, whether there is more.
-- EAGAIN: terms.
function op.trim()
    local from, upto = arg_number(), arg_number()
    local below, keep, held, hold = arg_number(), arg_number(), arg_number(), arg_number()
    local forced, all, terms, n = arg() == '1', arg() == '1', arg(), arg_number()
    local types, wanted, consumers = {}, {}, {}
    for _ = 1, n do
        local type, list = arg(), {}
        for i = 1, arg_number() do
            list[i] = arg()
            if not wanted[list[i]] then
                wanted[list[i]] = true
            end
        end
        types[type] = list
    end
    for _, id in pairs(get_all('cn')) do
        consumers[#consumers + 1] = id
    end
    if (get('log', 'terms') or '0') ~= terms then
        return {num(EAGAIN)}
    end
    local floors = {}
    for id in pairs(wanted) do
        floors[id] = bounds_of(id)
    end
    if not all then
        from = skip_to(from, types)
        if not from then
            return {'0', '0', '0', num(held), '0'}
        end
    end
    local held_by_replay = replays_hold()
    local list = call('XRANGE', P .. 's', num(from) .. '-0', '+', 'COUNT', num(MOST_WALKED))
    local rows = #list > 0 and open_rows(consumers, id_of(list[1]), id_of(list[#list])) or {}
    local removed, stays, more = 0, nil, #list == MOST_WALKED
    local excess = keep > 0 and count_of(types) - keep - held or 0
    for i = 1, #list do
        local e = list[i]
        local place = id_of(e)
        local seq, type = num(place), type_of(e)
        if (place >= below and excess <= 0) or (upto > 0 and place > upto) then
            more, stays = place < below or excess > 0, stays or place
            break
        end
        local goes = false
        from = place + 1
        if types[type] then
            goes = forced or (not rows[seq] and (hold == 0 or place < hold) and
                (not held_by_replay or place <= held_by_replay))
            for k = 1, forced and 0 or #types[type] do
                goes = goes and place <= floors[types[type][k]]
            end
            if goes then
                remove(seq, e, rows[seq], consumers)
                removed = removed + 1
            else
                held = held + 1
            end
            excess = excess - 1
        end
        stays = stays or not goes and place
    end
    if removed > 0 then
        move_first(list, stays)
    end
    return {'0', num(from), num(removed), num(held), more and '1' or '0'}
end

-- Before a slice that is forced: who will miss something: how many, then consumer, from, to.
function op.gaps()
    for _ = 1, arg_number() do
        local c, a, b = 'c:' .. arg(), arg_number(), arg_number()
        if get(c, 'name') then
            local old = get_number(c, 'gap_from')
            set(c, 'gap_from', num(old > 0 and math.min(old, a) or a))
            set(c, 'gap_to', num(math.max(get_number(c, 'gap_to'), b)))
            hint('shares')
        end
    end
    return {'0'}
end

-- After the last slice: where the log begins now, and where it ends.
function op.trimmed()
    local e = call('XRANGE', P .. 's', '-', '+', 'COUNT', '1')[1]
    local first = e and id_of(e) or 0
    set('log', 'first', num(first))
    for key in pairs(get_all('t')) do
        if first > 0 then
            local type = sub(key, find(key, ':', 1, true) + 1)
            command('ZREMRANGEBYSCORE', P .. 'b:' .. type, '-inf',
                '(' .. num(floor(first / BLOCK)))
        end
    end
    return {'0', num(first), get('log', 'last')}
end
