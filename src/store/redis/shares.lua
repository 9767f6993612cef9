-- shares.lua: processes, and which of a consumer's shares belong to whom. `p`: of each process until
-- when it lives, ms, and who it is; `m:CONSUMER`: those that have it open. Leases go by the server's
-- clock alone.

local FORGOTTEN_MS = 3600000 -- a process that did not say for so long that it lives is not kept

local function now_ms()
    return floor(clock() / 1000)
end

local function until_of(process)
    local p = get('p', process)
    return p and tonumber(fields(p, 1)[1]) or 0
end

-- How long it lives, ms, and who it is: the server's time, us.
function op.beat()
    local lease, who = arg_number(), arg()
    for process, p in pairs(get_all('p')) do
        if tonumber(fields(p, 1)[1]) < now_ms() - FORGOTTEN_MS then
            set('p', process, false)
            wipe('k:' .. process)
        end
    end
    set('p', me, join({num(now_ms() + lease), who}))
    return {'0', num(clock())}
end

-- It is over: its shares are free at once.
function op.leave()
    set('p', me, false)
    wipe('k:' .. me)
    hint('shares')
    return {'0'}
end

-- A connection to the server was made: which run of it, lease, ms. While it was down nobody could say
-- that he lives, so that all have a full lease after a start.
function op.hello()
    local run, lease = arg(), arg_number()
    if get('log', 'epoch') and get('log', 'run') ~= run then
        set('log', 'run', run)
        for process, text in pairs(get_all('p')) do
            local p = fields(text)
            set('p', process, join({num(math.max(tonumber(p[1]), now_ms() + lease)), p[2]}))
        end
    end
    return {'0', get('log', 'last') or '0', get('log', 'first') or '0'}
end

-- ---- whose is what ------------------------------------------------------------------------------

-- Others who have the consumer open; those that are dead are taken off.
local function members_of(id, dead)
    local m, n = 'm:' .. id, 0
    for process in pairs(get_all(m)) do
        if dead[process] or until_of(process) < now_ms() then
            set(m, process, false)
        elseif process ~= me then
            n = n + 1
        end
    end
    return n
end

local function lives(process, dead)
    return process == me or (not dead[process] and until_of(process) >= now_ms())
end

-- The token grows with each change: what comes from before it is refused. It is no lower than the time: a server that
-- took over may not know of the last changes, and must not give their tokens again.
local function give_to(id, share, h, owner)
    h[H_OWNER], h[H_TOKEN] = owner, num(math.max(tonumber(h[H_TOKEN]) + 1, clock()))
    set_share(id, share, h)
end

-- Given up in order: nothing of it runs, and all is saved. What was suspect before, and has not run since, still is.
local function take_back(id, share, h)
    h[H_CLAIMED] = '0'
    give_to(id, share, h, false)
end

local function release(id, n)
    local any = false
    for _ = 1, n do
        local share, token = arg(), arg()
        local h = share_of(id, share)
        if h and h[H_OWNER] == me and h[H_TOKEN] == token then
            take_back(id, share, h)
            any = true
        end
    end
    return any
end

-- What this one has already, and what is to be had.
local function sort_shares(id, dead)
    local own, free = {}, {}
    for i = 0, get_number('c:' .. id, 'shares') - 1 do
        local share = num(i)
        local h = share_of(id, share)
        if h[H_OWNER] == me then
            own[#own + 1] = share
        elseif not h[H_OWNER] or not lives(h[H_OWNER], dead) then
            free[#free + 1] = share
        end
    end
    return own, free
end

local function give_all_up(id, own)
    for i = 1, #own do
        take_back(id, own[i], share_of(id, own[i]))
    end
    if #own > 0 then
        hint('shares')
    end
end

local function describe_owned(id, own)
    local list = {}
    for i = 1, #own do
        list[#list + 1] = own[i]
        list[#list + 1] = share_of(id, own[i])[H_TOKEN]
    end
    return join(list)
end

-- Of each: share, token, how far its deliveries may start, how far they may have been running when an owner did not
-- give it up in order; its state.
local CLAIM_AHEAD = 4096
local function claim(id, free, n)
    local list, taken, last = {}, {}, log_last()
    for i = 1, math.min(n, #free) do
        local share = free[i]
        local h = share_of(id, share)
        local before = tonumber(h[H_CLAIMED])
        h[H_SUSPECT] = num(math.max(tonumber(h[H_SUSPECT]), math.min(before, last)))
        h[H_CLAIMED] = num(math.max(before, math.max(tonumber(h[H_FLOOR]), tonumber(h[H_HIGHEST])) + CLAIM_AHEAD))
        give_to(id, share, h, me)
        taken[share] = true
        list[#list + 1] = join({share, h[H_TOKEN], h[H_CLAIMED], h[H_SUSPECT],
            h[H_FLOOR], h[H_HIGHEST], h[H_SETTLED], rows_text(id, share)})
    end
    return join(list), taken
end

-- What is known goes, and so does what was claimed, or is nobody's: it is in the rows.
local function news_for(id, own, done, taken)
    local mine, list = {}, {}
    for i = 1, #own do
        mine[own[i]] = true
    end
    for number, text in pairs(get_all('n:' .. id)) do
        local share = fields(text, 1)[1]
        if mine[share] and tonumber(number) > done then
            list[#list + 1] = {tonumber(number), text}
        elseif mine[share] or taken[share] or not share_of(id, share)[H_OWNER] then
            set('n:' .. id, number, false)
        end
    end
    table.sort(list, function(a, b) return a[1] < b[1] end)
    local out = {}
    for i = 1, #list do
        out[2 * i - 1], out[2 * i] = num(list[i][1]), list[i][2]
    end
    return join(out)
end

-- Consumer, generation, whether it is being closed, news that are known, processes that are known to be
-- dead, shares that are released, with their tokens. OK: generation, paused, replay, gap from and to,
-- members, owned, how many of them to give up, claimed, news.
function op.shares()
    local id, generation, leaves, done = arg(), arg(), arg(), arg_number()
    local dead, c = {}, 'c:' .. id
    for _ = 1, arg_number() do
        dead[arg()] = true
    end
    local present = get(c, 'generation')
    local n_release = arg_number()
    if not present then
        at = at + 2 * n_release
        return {num(ENOTFOUND)}
    end
    if release(id, n_release) then
        hint('shares')
    end
    local members = members_of(id, dead)
    local own, free = sort_shares(id, dead)
    local surplus, claimed, taken = 0, '', {}
    if leaves == '1' or present ~= generation then
        give_all_up(id, own)
        own = {}
    else
        local fair = math.ceil(get_number(c, 'shares') / (members + 1))
        surplus = math.max(#own - fair, 0)
        claimed, taken = claim(id, free, fair - #own)
    end
    if leaves == '1' then
        set('m:' .. id, me, false)
    else
        if not get('m:' .. id, me) then
            set('m:' .. id, me, '1')
            hint('shares') -- others have more than they should now
        end
        members = members + 1
    end
    return {'0', present, get(c, 'paused'), get(c, 'rerun') or '', get(c, 'gap_from') or '0',
        get(c, 'gap_to') or '0', num(members), describe_owned(id, own), num(surplus), claimed,
        news_for(id, own, done, taken)}
end
