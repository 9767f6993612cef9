-- revive.lua: the log as a whole: how it begins, and how it goes on when the server has lost its end.
-- Processes know an epoch and how far they have seen the log. What a server has lost is never given out
-- again under the same sequences: they go on above all that anybody saw.

-- Calls compare the stamp: one field for both.
local function set_epoch(id, epoch)
    set('log', 'epoch', num(epoch))
    set('log', 'stamp', id .. ':' .. num(epoch))
end

-- A process opens the log: a fresh id for it, the format, whether it must be there. OK: format, id, epoch,
-- first, last. ENOTFOUND.
function op.found()
    local id, format, existing = arg(), arg(), arg()
    if not get('log', 'epoch') then
        if existing == '1' then
            return {num(ENOTFOUND)}
        end
        set('log', 'id', id)
        set('log', 'format', format)
        set_epoch(id, 1)
        set('log', 'first', '0')
        set('log', 'last', '0')
        set('log', 'recorded', '0')
    end
    return {'0', get('log', 'format'), get('log', 'id'), get('log', 'epoch'), get('log', 'first'),
        get('log', 'last')}
end

local function lose(from, to)
    local old = get_number('log', 'lost_from')
    set('log', 'lost_from', num(old > 0 and math.min(old, from) or from))
    set('log', 'lost_to', num(to))
end

-- Numbers that were given out before and are lost are still known: a consumer's to those who have it open, a dead
-- letter's or a schedule's to a group that is about to be committed, news to those who look for later ones. They go
-- on above all of them, too: nobody draws 2^32 of them in one epoch.
local function lose_numbers(epoch)
    for _, counter in ipairs({'consumer', 'letter', 'schedule', 'news'}) do
        set('log', counter, num(math.max(get_number('log', counter), epoch * 4294967296)))
    end
end

-- A consumer that the server has forgotten begins above what is lost, and is told so.
local function bring_back(name, pattern, policy, id, generation, shares, last)
    if get('cn', name) then
        return
    end
    local c = 'c:' .. id
    pinned = {'0', id}
    register(name, pattern, policy, last, num(clock()) .. '000', shares)
    pinned = nil
    set(c, 'generation', num(tonumber(generation) + 1))
    set(c, 'gap_from', get('log', 'lost_from'))
    set(c, 'gap_to', get('log', 'lost_to'))
    set('log', 'consumer', num(math.max(get_number('log', 'consumer'), tonumber(id))))
end

-- The log's id, the epoch and the last sequence that the process knows, how far others may have seen
-- beyond; then, after how many there are, of each consumer that it has open name, pattern, policy, id,
-- generation, shares. OK: epoch, first, last. ECONFLICT: another log is there.
function op.revive()
    local id, epoch_known, known, slack, n = arg(), arg_number(), arg_number(), arg_number(), arg_number()
    local there = get_number('log', 'epoch')
    local last = get_number('log', 'last')
    if there > 0 and get('log', 'id') ~= id then
        at = at + 6 * n
        return {num(ECONFLICT)}
    end
    if there == 0 or last < known then
        set('log', 'id', id)
        set('log', 'format', '1')
        local epoch = math.max(there, epoch_known) + 1
        set_epoch(id, epoch)
        lose_numbers(epoch)
        lose(last + 1, known + slack)
        set('log', 'last', num(known + slack))
        set('log', 'recorded', get('log', 'recorded') or '0')
        if there == 0 then
            set('log', 'first', '0')
        end
        hint('shares')
    end
    for _ = 1, n do
        bring_back(arg(), arg(), arg(), arg(), arg(), arg(), get_number('log', 'last'))
    end
    return {'0', get('log', 'epoch'), get('log', 'first'), get('log', 'last')}
end
