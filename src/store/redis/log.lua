-- log.lua: the log: a stream whose ids are SEQUENCE-0, contiguous, by the counter `last` in the hash
-- `log`. Beside it: `i`, the place of each event by source and id; `v`, the version of each subject;
-- `t`, how many there are of each type and version; `b:TYPE`, in which blocks of 1024 sequences a type
-- occurs, so that a rare one is found without reading the others.

local BLOCK = 1024

local log_start -- the last sequence, without this call's events
local function log_last()
    log_start = log_start or get_number('log', 'last')
    return log_start + n_new
end
local function log_first()
    local first = get_number('log', 'first')
    return (first == 0 and n_new > 0) and log_start + 1 or first
end

-- The arguments of an event, behind the place that is noted of it. Expected version and subject are there when the
-- second of its marks is a plus; the first: f, its id is fresh; s, the first one stands. 16 bytes of digest follow.
local A_NAME, A_MARKS, A_KIND, A_BODY, A_EXPECTED, A_SUBJECT = 1, 2, 3, 4, 5, 6
local FRESH, STANDS, PLUS = 102, 115, 43

local function has_subject(a)
    return byte(ARGV[a + A_MARKS], 2) == PLUS
end
local function digest_of(marks)
    return sub(marks, 3)
end

-- What the hash `i` says of a name, "SEQUENCE:SUBJECT VERSION:MARKS": sequence, version, digest.
local function place_of(name)
    local k = placed[name]
    if k then
        return num(log_start + k), new_version[k], digest_of(ARGV[new_at[k] + A_MARKS])
    end
    local old = call('HGET', P .. 'i', name)
    if not old then
        return nil
    end
    local a = find(old, ':', 1, true)
    local b = find(old, ':', a + 1, true)
    return sub(old, 1, a - 1), sub(old, a + 1, b - 1), digest_of(sub(old, b + 1))
end

-- One time for all of a call. Recorded times never decrease, whatever the clock does.
local rec
local function recorded()
    rec = rec or num(math.max(clock(), get_number('log', 'recorded')))
    return rec
end

local function append_new(a, version)
    n_new = n_new + 1
    new_at[n_new], new_version[n_new] = a, version
end

-- The version of its subject; or the refusal.
local function next_version(a)
    local subject, expected = ARGV[a + A_SUBJECT], tonumber(ARGV[a + A_EXPECTED])
    local current = get_number('v', subject)
    if expected ~= 0 and math.max(expected, 0) ~= current then
        return nil, {num(EVERSION), num(current)}
    end
    local version = num(current + 1)
    set('v', subject, version)
    return version
end

-- One event of a unit: its sequence, whether it is a repeat, its subject's version; or the refusal.
local function append_one(a)
    local name, marks = ARGV[a + A_NAME], ARGV[a + A_MARKS]
    local how = byte(marks)
    if how ~= FRESH then
        local seq, version, old = place_of(name)
        if seq then
            if how ~= STANDS and old ~= digest_of(marks) then
                return nil, {num(ECONFLICT), seq}
            end
            return seq, '1', version
        end
    end
    local version, refused = '0', nil
    if has_subject(a) then
        version, refused = next_version(a)
        if refused then
            return nil, refused
        end
    end
    append_new(a, version)
    if how ~= FRESH then
        placed[name] = n_new
    end
    return num(log_start + n_new), '0', version
end

local function pass_over(n)
    for _ = 1, n do
        at = at + (has_subject(at) and A_SUBJECT or A_BODY)
    end
end

-- What is to be told of it; nothing when all its events are just the next new ones, without subjects.
local function append_unit(n)
    local plain, out, n_out = true, {'0'}, 1
    local undo_to, later_to, new_to = n_undo, n_later, n_new
    for k = 0, n - 1 do
        local seq, repeated, version = append_one(at)
        if not seq then
            back(undo_to, later_to, new_to)
            pass_over(n - k)
            return {repeated[1], num(k), repeated[2]}
        end
        plain = plain and repeated == '0' and version == '0'
        out[n_out + 1], out[n_out + 2], out[n_out + 3] = seq, repeated, version
        n_out = n_out + 3
        pass_over(1)
    end
    return not plain and out or nil
end

local gone -- the schedule of the unit that follows went to somebody else

local function next_unit()
    local n = arg()
    if gone then
        gone = nil
        pass_over(tonumber(n))
        return {num(ENOTFOUND), '0', '0'}
    elseif n == '1' and byte(ARGV[at + A_MARKS]) == FRESH and not has_subject(at) then -- as most are
        append_new(at, '0')
        at = at + A_BODY
        return nil
    end
    return append_unit(tonumber(n))
end

-- How many units; of each how many events, and these: source NUL id, marks, "VERSION:TYPE", the body, then, if so
-- marked, expected version (0: any, -1: none) and subject. The answer: the first new sequence or 0, and a list: of
-- each unit whose events are not just the next new ones its number and a list: OK, and of each event sequence,
-- duplicate or not, subject version; ECONFLICT, which one, of what sequence; EVERSION, which one, the version there
-- is; ENOTFOUND: its schedule. More: the recorded time, us.
function op.append()
    local first, others, n = log_last() + 1, {}, 0
    for unit = 0, arg_number() - 1 do
        local told = next_unit()
        if told then
            others[n + 1], others[n + 2] = num(unit), join(told)
            n = n + 2
        end
    end
    return {'0', log_last() < first and '0' or num(first), join(others, n)}, recorded()
end

-- ---- writing ------------------------------------------------------------------------------------

-- How many more of each type and version, by "VERSION:TYPE"; retention counts down. And the blocks of those
-- that are new. Kept of each: how many, the first and last recorded time, the last block.
local tally, blocks = {}, {}

local function write_tally()
    for kind, n in pairs(tally) do
        local old = fields(call('HGET', P .. 't', kind) or '')
        local block = old[4]
        for _, b in ipairs(blocks[kind] or {}) do
            if b ~= block then
                call('ZADD', P .. 'b:' .. sub(kind, find(kind, ':', 1, true) + 1), b, b)
                block = b
            end
        end
        call('HSET', P .. 't', kind, join({num(tonumber(old[1] or 0) + n), old[2] or rec,
            n > 0 and rec or old[3], block}, 4))
    end
end

local function note_blocks(kinds, block)
    for kind in pairs(kinds) do
        blocks[kind] = blocks[kind] or {}
        table.insert(blocks[kind], num(block))
    end
end

local function count_new()
    local block = floor((log_start + 1) / BLOCK)
    local first_of_next, kinds = (block + 1) * BLOCK - log_start, {}
    for k = 1, n_new do
        local kind = ARGV[new_at[k] + A_KIND]
        if k == first_of_next then
            note_blocks(kinds, block)
            block, first_of_next, kinds = block + 1, first_of_next + BLOCK, {}
        end
        tally[kind] = (tally[kind] or 0) + 1
        kinds[kind] = true
    end
    note_blocks(kinds, block)
end

-- Recorded time, version of the subject, type.
local function head_of(version, kind)
    return rec .. ' ' .. version .. ' ' .. sub(kind, find(kind, ':', 1, true) + 1)
end

local function write_new()
    local stream, names, list, n, plain = P .. 's', P .. 'i', {}, 0, {}
    for k = 1, n_new do
        local a, seq, version = new_at[k], num(log_start + k), new_version[k]
        local kind = ARGV[a + A_KIND]
        local h = version == '0' and plain[kind]
        if not h then
            h = head_of(version, kind)
            plain[kind] = version == '0' and h or plain[kind]
        end
        call('XADD', stream, seq .. '-0', 'h', h, 'b', ARGV[a + A_BODY])
        list[n + 1], list[n + 2] = ARGV[a + A_NAME], seq .. ':' .. version .. ':' .. ARGV[a + A_MARKS]
        n = n + 2
        if n == MOST then
            call('HSET', names, unpack(list, 1, n))
            n = 0
        end
    end
    if n > 0 then
        call('HSET', names, unpack(list, 1, n))
    end
    count_new()
end

-- Numbers that are wanted before the commit: the counter, how many; the first of them.
function op.draw()
    local counter, n = arg(), arg_number()
    need_no_room()
    return {'0', num(draw(counter, n) - n + 1)}
end

-- ---- looking ------------------------------------------------------------------------------------

local function id_of(entry) -- of an XRANGE
    return tonumber(sub(entry[1], 1, find(entry[1], '-', 1, true) - 1))
end

-- Recorded time, us; type.
local function recorded_of(entry)
    return tonumber(sub(entry[2][2], 1, find(entry[2][2], ' ', 1, true) - 1))
end
local function type_of(entry)
    local head = entry[2][2]
    return sub(head, find(head, ' ', find(head, ' ', 1, true) + 1, true) + 1)
end

-- See entry.c.
local E_VERSION, E_SOURCE, E_ID, E_SUBJECT = 1, 9, 10, 11
local function envelope_of(entry)
    return fields(entry[2][4], E_SUBJECT)
end

local function is_there(seq)
    return #call('XRANGE', P .. 's', seq .. '-0', seq .. '-0') > 0
end

-- The first sequence recorded at or after a time, us; one past the end when there is none.
local function seek(us)
    local last = get_number('log', 'last') -- what is appended in this call is of now
    local low, high = get_number('log', 'first'), last + 1
    if us > clock() then
        return log_last() + 1
    elseif low == 0 or us > get_number('log', 'recorded') then
        return last + 1
    end
    while low < high do
        local middle = floor((low + high) / 2)
        local e = call('XRANGE', P .. 's', num(middle) .. '-0', '+', 'COUNT', '1')[1]
        if not e or recorded_of(e) >= us then
            high = middle
        else
            low = id_of(e) + 1
        end
    end
    return low
end

-- A time, us: the sequence.
function op.seek()
    return {'0', num(seek(arg_number()))}
end

-- From which sequence, to which, how many are looked at, subject or nothing, how many types (0: any),
-- the types: how many there are of these, and the last that was looked at.
function op.count()
    local from, to, most, subject, n = arg(), arg(), arg(), arg(), arg_number()
    local wanted, found, looked = {}, 0, to
    for _ = 1, n do
        wanted[arg()] = true
    end
    local list = call('XRANGE', P .. 's', from .. '-0', to .. '-0', 'COUNT', most)
    for i = 1, #list do
        local e = list[i]
        if (n == 0 or wanted[type_of(e)]) and
            (subject == '' or envelope_of(e)[E_SUBJECT] == subject) then
            found = found + 1
        end
    end
    if #list == tonumber(most) then
        looked = num(id_of(list[#list]))
    end
    return {'0', num(found), looked}
end
