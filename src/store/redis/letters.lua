-- letters.lua: dead letters: `l`, by id; `lz`, ids in their order; `lt`, of those that are redriven: 2;
-- `ls:CONSUMER`, ids by sequence; `td`, how many there are of each type and version.

-- The first fields of a letter; those that follow are for who reads it.
local L_CONSUMER, L_GENERATION, L_SEQ, L_SHARE, L_TYPE, L_VERSION, L_KEY = 1, 2, 3, 4, 5, 6, 7
local L_HEAD = 7

local function add_letter(id, text)
    local l = fields(text, L_HEAD)
    local ls, seq = 'ls:' .. l[L_CONSUMER], l[L_SEQ]
    local others = get(ls, seq)
    set('l', id, text)
    set(ls, seq, others and others .. ' ' .. id or id)
    add('td', l[L_VERSION] .. ':' .. l[L_TYPE], 1)
    add('c:' .. l[L_CONSUMER], 'letters', 1)
    command('ZADD', P .. 'lz', id, id)
end

local function drop_letter(id, l)
    local c, ls, left = 'c:' .. l[L_CONSUMER], 'ls:' .. l[L_CONSUMER], {}
    for other in string.gmatch(get(ls, l[L_SEQ]) or '', '%d+') do
        if other ~= id then
            left[#left + 1] = other
        end
    end
    local key = l[L_VERSION] .. ':' .. l[L_TYPE]
    local n = get_number('td', key) - 1
    add(c, get('lt', id) and 'redriven' or 'letters', -1)
    set(ls, l[L_SEQ], #left > 0 and concat(left, ' '))
    set('td', key, n > 0 and num(n))
    set('lt', id, false)
    set('l', id, false)
    command('ZREM', P .. 'lz', id)
end

-- Attempts are kept as long as the event is in the log, or open, or a dead letter.
local function tidy_attempts(id, share, seq)
    local a = 'a:' .. id
    if get(a, seq) and not get('r:' .. id .. ':' .. share, seq) and not get('ls:' .. id, seq) and
        not is_there(seq) then
        set(a, seq, false)
    end
end

-- Its delivery was settled, or it died anew: what was redriven of it has ended.
local function end_delivery(id, share, seq)
    if get_number('c:' .. id, 'redriven') > 0 then
        for letter in string.gmatch(get('ls:' .. id, seq) or '', '%d+') do
            if get('lt', letter) then
                drop_letter(letter, fields(get('l', letter), L_HEAD))
            end
        end
    end
    tidy_attempts(id, share, seq)
end

-- ---- saving -------------------------------------------------------------------------------------

-- Consumer, generation, share, token, claimed, floor, highest, settled set, gaps done, how many of
-- the first to drop are stale; then, each after how many there are, sequences of rows to drop, sequence
-- and row of those to put, sequence and text of attempts, id, sequence and text of letters. ENOTFOUND: consumer or generation; ESTALE: the token.
function op.save()
    local id, generation, share, token = arg(), arg(), arg(), arg()
    local claimed, low, high, settled, gap_done = arg_number(), arg(), arg(), arg(), arg_number()
    local n_stale, n_drop = arg_number(), arg_number()
    local drop_at = at
    at = at + n_drop
    local n_put = arg_number()
    local put_at = at
    at = at + 2 * n_put
    local n_tried = arg_number()
    local tried_at = at
    at = at + 2 * n_tried
    local n_dead = arg_number()
    local dead_at = at
    at = at + 3 * n_dead
    gives_up = gives_up or n_dead > 0
    local c, r, a = 'c:' .. id, 'r:' .. id .. ':' .. share, 'a:' .. id
    if get(c, 'generation') ~= generation then
        return {num(ENOTFOUND)}
    end
    local h = share_of(id, share)
    if not h or h[H_TOKEN] ~= token then
        return {num(ESTALE)}
    end
    claimed = math.max(claimed, tonumber(h[H_CLAIMED]))
    set_share(id, share, {h[H_OWNER], token, num(claimed), h[H_SUSPECT], low, high, settled})
    for i = drop_at + 1, drop_at + n_drop do
        -- what is stale may have been redriven since the share was claimed
        if i > drop_at + n_stale or (fields(get(r, ARGV[i]) or '', 1))[1] ~= RETRY then
            set(r, ARGV[i], false)
        end
    end
    for i = put_at + 1, put_at + 2 * n_put, 2 do
        set(r, ARGV[i], ARGV[i + 1])
    end
    for i = tried_at + 1, tried_at + 2 * n_tried, 2 do
        set(a, ARGV[i], (get(a, ARGV[i]) or '') .. ARGV[i + 1])
    end
    for i = dead_at + 1, dead_at + 3 * n_dead, 3 do
        add_letter(ARGV[i], ARGV[i + 2])
    end
    for i = drop_at + n_stale + 1, drop_at + n_drop do
        end_delivery(id, share, ARGV[i])
    end
    for i = dead_at + 1, dead_at + 3 * n_dead, 3 do
        end_delivery(id, share, ARGV[i + 1])
    end
    if gap_done > 0 and get_number(c, 'gap_to') <= gap_done then
        set(c, 'gap_from', false)
        set(c, 'gap_to', false)
    end
    return {'0'}
end

-- ---- redriving and discarding --------------------------------------------------------------------

local NEWS_REDRIVEN, NEWS_DISCARDED = '1', '2'

-- Does another process have the share, which has to be told? The second: not this one.
local function told_elsewhere(l)
    local h = share_of(l[L_CONSUMER], l[L_SHARE])
    return h[H_OWNER] and h[H_OWNER] ~= me, h[H_OWNER] ~= me
end

-- Ids of news are in the order of the commits: the counter is written with them.
local function tell_news(l, kind, due, key)
    local elsewhere, remote = told_elsewhere(l)
    if elsewhere then
        add('log', 'news', 1)
        set('n:' .. l[L_CONSUMER], get('log', 'news'), join({l[L_SHARE], kind, l[L_SEQ], due, key}, 5))
        hint('shares')
    end
    return remote and '1' or '0'
end

-- ENOTFOUND, ECONFLICT (redriven already), or the letter and its open row.
local function find_letter(id)
    local text = get('l', id)
    if not text then
        return {num(ENOTFOUND), '0'}
    end
    local l = fields(text, L_HEAD)
    if get('lt', id) then
        return {num(ECONFLICT), '0', l[L_SEQ]}
    end
    local row = get('r:' .. l[L_CONSUMER] .. ':' .. l[L_SHARE], l[L_SEQ])
    return nil, l, row and fields(row)
end

-- Id, when it is due. OK: consumer, generation, sequence, lane, parked or not, another process's or not.
-- The second of a refusal: which of several reasons.
function op.redrive()
    local id, due = arg(), arg()
    local refused, l, row = find_letter(id)
    if refused then
        return refused
    end
    local consumer, seq = l[L_CONSUMER], l[L_SEQ]
    local c, r = 'c:' .. consumer, 'r:' .. consumer .. ':' .. l[L_SHARE]
    local generation = get(c, 'generation')
    if not generation then
        return {num(ENOTFOUND), '1'}
    elseif row and row[1] ~= DEAD then
        return {num(ECONFLICT), '1', seq}
    elseif not row and l[L_GENERATION] ~= generation and
        tonumber(seq) > tonumber(share_of(consumer, l[L_SHARE])[H_FLOOR]) then
        return {num(EAGAIN), '1', seq}
    end
    local key = l[L_KEY]
    if row then
        key = row[7]
    end
    set(r, seq, join({RETRY, '0', '0', '0', due, '0', key, false}, 8))
    for other in string.gmatch(get('ls:' .. consumer, seq), '%d+') do
        if not get('lt', other) then
            set('lt', other, '2')
            add(c, 'letters', -1)
            add(c, 'redriven', 1)
        end
    end
    local remote = tell_news(l, NEWS_REDRIVEN, due, key)
    return {'0', consumer, generation, seq, key or '', key and '1' or '0', row and '1' or '0', remote}
end

function op.discard()
    local id = arg()
    local refused, l, row = find_letter(id)
    if refused then
        return refused
    end
    local consumer, seq = l[L_CONSUMER], l[L_SEQ]
    local generation = get('c:' .. consumer, 'generation') or '0'
    -- The row of a later generation is parked by a later letter.
    local parked = row and row[1] == DEAD and l[L_GENERATION] == generation
    local key = l[L_KEY]
    if row then
        key = row[7]
    end
    local remote = '0'
    if parked then
        set('r:' .. consumer .. ':' .. l[L_SHARE], seq, false)
        remote = tell_news(l, NEWS_DISCARDED, '0', key)
    end
    drop_letter(id, l)
    tidy_attempts(consumer, l[L_SHARE], seq)
    return {'0', consumer, generation, seq, key or '', key and '1' or '0', parked and '1' or '0',
        remote}
end
