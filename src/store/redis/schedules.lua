-- schedules.lua: events that wait for their time: `sd`, by id; `so`, ids in their order; `sz`, ids by when
-- they are due, us; `si`, ids by source and id; `tl`, how many there are of each type and version. And
-- replays into handlers: `rp`, by id.

-- The first fields of a schedule; envelope and data follow.
local S_DUE, S_BY_DELAY, S_CREATED, S_DIGEST, S_NAME, S_TYPE, S_VERSION = 1, 2, 3, 4, 5, 6, 7
local S_HEAD = 7

-- Due, us; source NUL id; digest; whether the first one stands; type and version; the text. OK: its id, a
-- sequence that has it already, duplicate or not. ECONFLICT: the sequence, or the schedule.
function op.schedule_add()
    local due, name, digest, stands, type, version, text = arg(), arg(), arg(), arg(), arg(), arg(), arg()
    local seq, _, old = place_of(name)
    if seq then
        if stands ~= '1' and old ~= digest then
            return {num(ECONFLICT), seq, '0'}
        end
        return {'0', '0', seq, '1'}
    end
    local id = get('si', name)
    if id then
        if stands ~= '1' and fields(get('sd', id), S_HEAD)[S_DIGEST] ~= digest then
            return {num(ECONFLICT), '0', id}
        end
        return {'0', id, '0', '1'}
    end
    id = pinned and pinned[2] or num(draw('schedule', 1))
    set('sd', id, text)
    set('si', name, id)
    add('tl', version .. ':' .. type, 1)
    command('ZADD', P .. 'so', id, id)
    command('ZADD', P .. 'sz', due, id)
    hint('schedules')
    return {'0', id, '0', '0'}
end

-- Leniently: where another process was quicker, the unit behind it is refused, and the group goes on.
function op.schedule_drop(lenient)
    local id = arg()
    local text = get('sd', id)
    if not text then
        gone = lenient or nil
        return {num(ENOTFOUND)}
    end
    local s = fields(text, S_HEAD)
    local key = s[S_VERSION] .. ':' .. s[S_TYPE]
    local n = get_number('tl', key) - 1
    set('tl', key, n > 0 and num(n))
    set('sd', id, false)
    set('si', s[S_NAME], false)
    command('ZREM', P .. 'so', id)
    command('ZREM', P .. 'sz', id)
    return {'0'}
end

-- One of them, also of this group: its text.
function op.schedule()
    return {'0'}, get('sd', arg()) or ''
end

-- How far ahead, us; at most how many: ids and texts of what is due, the earliest first; how long until
-- the next one, us, or -1.
function op.due()
    local by, most = clock() + arg_number(), arg_number()
    local list, next_in = {}, '-1'
    local ids = call('ZRANGEBYSCORE', P .. 'sz', '-inf', num(by), 'LIMIT', '0', num(most))
    for i = 1, #ids do
        local text = get('sd', ids[i])
        if text then
            list[#list + 1] = ids[i]
            list[#list + 1] = join(fields(text, S_HEAD), S_HEAD)
        end
    end
    local rest = call('ZRANGE', P .. 'sz', num(#ids), num(#ids), 'WITHSCORES')
    if rest[2] then
        next_in = num(math.max(tonumber(rest[2]) - clock(), 0))
    end
    return {'0', next_in, join(list)}
end

-- Id, whether it is under way here, text.
function op.replay()
    local id, holds, text = arg(), arg(), arg()
    set('rp', id, join({holds == '1' and me or '', text}))
    return {'0'}
end

-- The text of each, and whether it is under way in another process, which lives.
function op.replays()
    local list = {}
    for _, value in pairs(get_all('rp')) do
        local r = fields(value)
        local elsewhere = r[1] ~= '' and r[1] ~= me and until_of(r[1]) >= now_ms()
        list[#list + 1] = elsewhere and '1' or '0'
        list[#list + 1] = r[2]
    end
    return {'0', join(list)}
end
