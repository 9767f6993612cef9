-- consumer.lua: consumers: `cn`, ids by name; `c:ID`, how one is registered; `h:ID`, its shares: owner,
-- token, claimed, suspect, floor, highest, settled set; `r:ID:SHARE`, open rows by sequence; `a:ID`, the
-- attempts at each sequence. `letters` and `redriven` in `c:ID` count its dead letters by state.

local RETRY, PARKED, DEAD, SETTLED = '1', '3', '4', '6'
local H_OWNER, H_TOKEN, H_CLAIMED, H_SUSPECT, H_FLOOR, H_HIGHEST, H_SETTLED = 1, 2, 3, 4, 5, 6, 7
local START_NOW, START_FIRST, START_SEQUENCE, START_TIME = '0', '1', '2', '3'

local function share_of(id, share)
    local h = get('h:' .. id, share)
    return h and fields(h)
end
local function set_share(id, share, h)
    set('h:' .. id, share, join(h, H_SETTLED))
end

-- The lowest floor and the highest place of all shares.
local function bounds_of(id)
    local low, high
    for i = 0, get_number('c:' .. id, 'shares') - 1 do
        local h = share_of(id, num(i))
        local f, g = tonumber(h[H_FLOOR]), tonumber(h[H_HIGHEST])
        low = (not low or f < low) and f or low
        high = (not high or g > high) and g or high
    end
    return low, high
end

-- The rows of a share, as text, and how many there are.
local function rows_text(id, share)
    local list, n = {}, 0
    for seq, row in pairs(get_all('r:' .. id .. ':' .. share)) do
        list[n + 1], list[n + 2] = seq, row
        n = n + 2
    end
    return join(list, n)
end

-- By the kind of start and its value, a sequence or a time, us: all up to it is none of its business.
local function start_floor(kind, value)
    local last, first = log_last(), log_first()
    if kind == START_NOW then
        return last
    elseif kind == START_FIRST then
        return first > 0 and first - 1 or last
    elseif kind == START_SEQUENCE then
        return math.max(tonumber(value), 1) - 1
    end
    return first > 0 and seek(tonumber(value)) - 1 or last
end

-- What is told of a consumer, with the state of one share.
local function state_of(id, share)
    local c = 'c:' .. id
    local h = share_of(id, share)
    return join({get(c, 'paused'), get(c, 'rerun'), get(c, 'gap_from') or '0',
        get(c, 'gap_to') or '0', h[H_FLOOR], h[H_HIGHEST], h[H_SETTLED], rows_text(id, share)}, 8)
end

local function register(name, pattern, policy, floor_at, created, shares)
    local id = pinned and pinned[2] or num(draw('consumer', 1))
    local c = 'c:' .. id
    set('cn', name, id)
    set(c, 'name', name)
    set(c, 'pattern', pattern)
    set(c, 'policy', policy)
    set(c, 'generation', '1')
    set(c, 'shares', shares)
    set(c, 'paused', '0')
    set(c, 'created', created)
    for i = 0, tonumber(shares) - 1 do
        set_share(id, num(i), {false, '0', '0', '0', num(floor_at), num(floor_at), ''})
    end
    return id
end

-- Name, pattern, policy, whether to take them over, whether only to find it, kind and value of its
-- start, time of creation, how many shares, of which the state is wanted (or nothing: the bounds of
-- all). OK: id, created or not, changed or not, floor at the start; more: generation, pattern, policy,
-- shares, lowest floor, highest place, the state. ECONFLICT: pattern, policy.
function op.open()
    local name, pattern, policy, update, only = arg(), arg(), arg(), arg(), arg()
    local kind, value, created, shares, share = arg(), arg(), arg(), arg(), arg()
    local id, is_new, changed, floor_at = get('cn', name), '0', '0', '0'
    if not id then
        if only == '1' then
            return {num(ENOTFOUND)}
        end
        floor_at = pinned and pinned[5] or num(start_floor(kind, value))
        id, is_new = register(name, pattern, policy, floor_at, created, shares), '1'
    end
    local c = 'c:' .. id
    if only ~= '1' and (get(c, 'pattern') ~= pattern or get(c, 'policy') ~= policy) then
        if update ~= '1' then
            return {num(ECONFLICT), get(c, 'pattern'), get(c, 'policy')}
        end
        set(c, 'pattern', pattern)
        set(c, 'policy', policy)
        changed = '1'
    end
    if is_new == '1' or changed == '1' then
        add('log', 'terms', 1) -- see trim.lua
    end
    local low, high = bounds_of(id)
    local more = join({get(c, 'generation'), get(c, 'pattern'), get(c, 'policy'),
        get(c, 'shares'), num(low), num(high), state_of(id, share)}, 7)
    return {'0', id, is_new, changed, floor_at}, more
end

-- Id, whether it pauses.
function op.pause()
    local c, paused = 'c:' .. arg(), arg()
    if not get(c, 'name') then
        return {num(ENOTFOUND)}
    end
    set(c, 'paused', paused)
    hint('shares')
    return {'0'}
end

-- ---- resetting ----------------------------------------------------------------------------------

local function rerun_of(id) -- id, from, upto, rate, started, settled
    local text = get('c:' .. id, 'rerun')
    return text and fields(text)
end

-- What is below the floor and still open has a row. When it is reset again while it replays, it stood
-- farther on before.
local function settled_up_to(id, low)
    local open
    for i = 0, get_number('c:' .. id, 'shares') - 1 do
        for seq in pairs(get_all('r:' .. id .. ':' .. i)) do
            local n = tonumber(seq)
            if not open or n < open then
                open = n
            end
        end
    end
    local settled = open and open <= low and open - 1 or low
    local rerun = rerun_of(id)
    return math.max(settled, rerun and tonumber(rerun[6]) or 0)
end

-- All that is open goes. Letters whose delivery was under way are dead letters again.
local function clear(id, floor_at, high)
    local c = 'c:' .. id
    for i = 0, get_number(c, 'shares') - 1 do
        local h = share_of(id, num(i))
        wipe('r:' .. id .. ':' .. i)
        set_share(id, num(i), {false, h[H_TOKEN], '0', '0', num(floor_at), num(high), ''})
    end
    if get_number(c, 'redriven') > 0 then
        local redriven = get_all('lt')
        for _, ids in pairs(get_all('ls:' .. id)) do
            for letter in string.gmatch(ids, '%d+') do
                if redriven[letter] then
                    set('lt', letter, false)
                end
            end
        end
        set(c, 'letters', num(get_number(c, 'letters') + get_number(c, 'redriven')))
        set(c, 'redriven', '0')
    end
    set(c, 'gap_from', false)
    set(c, 'gap_to', false)
    wipe('n:' .. id)
end

-- Id, whether all stays but its replay, kind and value of the start, reached, the replay's id or
-- nothing, its rate, the time. OK: generation, floor, then of the replay from, upto, settled.
function op.reset()
    local id, keep, kind, value, reached = arg(), arg(), arg(), arg(), arg_number()
    local rerun, rate, started = arg(), arg(), arg()
    local c = 'c:' .. id
    if not get(c, 'name') then
        return {num(ENOTFOUND)}
    end
    local low, high = bounds_of(id)
    hint('shares')
    if keep == '1' then
        set(c, 'rerun', false)
        return {'0', get(c, 'generation')}, join({num(low), '0', '0', '0'})
    end
    local generation = num(get_number(c, 'generation') + 1)
    local floor_at = pinned and tonumber(pinned[3]) or start_floor(kind, value)
    local from, upto, settled = '0', '0', '0'
    high = math.max(high, reached)
    if pinned then -- as it was told, whatever was delivered meanwhile
        from, upto, settled = pinned[4], pinned[5], pinned[6]
    elseif rerun ~= '' and high > floor_at then
        from, upto, settled = num(floor_at + 1), num(high), num(settled_up_to(id, low))
    end
    set(c, 'rerun', from ~= '0' and join({rerun, from, upto, rate, started, settled}))
    clear(id, floor_at, high)
    set(c, 'generation', generation)
    return {'0', generation, num(floor_at), from, upto, settled}
end

-- ---- the list -----------------------------------------------------------------------------------

-- What a lane whose head is a dead letter has besides it is parked, whatever it was saved as.
local function count_rows(id, shares)
    local list, lanes, n, n_lanes = {}, {}, {0, 0, 0, 0}, 0
    for i = 0, shares - 1 do
        for _, row in pairs(get_all('r:' .. id .. ':' .. i)) do
            local r = fields(row)
            list[#list + 1] = r
            if r[1] == DEAD then
                n[4] = n[4] + 1
                if not r[7] or not lanes[r[7]] then
                    n_lanes = n_lanes + 1
                end
                if r[7] then
                    lanes[r[7]] = true
                end
            end
        end
    end
    for i = 1, #list do
        local state, key = list[i][1], list[i][7]
        if state < DEAD then
            if key and lanes[key] then
                n[3] = n[3] + 1
            elseif state == RETRY then
                n[1] = n[1] + 1
            else
                n[2] = n[2] + 1
            end
        end
    end
    return n, n_lanes
end

-- The name: id, pattern, policy, generation, floor, highest, paused, created, replay, rows that are
-- retrying, behind, parked, dead, dead lanes, letters.
function op.describe()
    local name = arg()
    local id = get('cn', name)
    if not id then
        return {num(ENOTFOUND)}
    end
    local c = 'c:' .. id
    local low, high = bounds_of(id)
    local n, lanes = count_rows(id, get_number(c, 'shares'))
    return {'0', id, get(c, 'pattern'), get(c, 'policy'), get(c, 'generation'), num(low), num(high),
        get(c, 'paused'), get(c, 'created'), get(c, 'rerun') or '', num(n[1]), num(n[2]), num(n[3]),
        num(n[4]), num(lanes), num(get_number(c, 'letters'))}
end
