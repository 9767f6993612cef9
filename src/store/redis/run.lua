-- run.lua: how the script is called: KEYS[1] is "{hark:NAME}:log"; then the mode (commit, judge), the
-- process, the call's ticket (0: it has none), the log's id and epoch (or nothing), how many operations; of each its name,
-- what it is pinned to, and its arguments. The answer: of each operation its reply, and what else it
-- tells, which may be another thing when it is asked again.
--
-- Pinned: this reply was promised when the operation was judged. Should another come of it now, the
-- whole call ends with HARKCHANGED, and nothing is written. "*": whatever comes of it is right.
--
-- A call is carried out once by its ticket: asked again, the answer is that of the first time.

local mode, ticket, stamp
mode, me, ticket, stamp = arg(), arg(), arg(), arg()
judging = mode == 'judge'

local grows = { append = true, schedule_add = true }
local wants_room = false

local function run_one()
    local name, pin = arg(), arg()
    wants_room = wants_room or grows[name]
    local undo_to, later_to, new_to = n_undo, n_later, n_new
    pinned = pin ~= '' and pin ~= '*' and fields(pin) or nil
    local text, more = op[name](pin == '*')
    if type(text) == 'table' then
        if text[1] ~= '0' then
            back(undo_to, later_to, new_to)
        end
        text = join(text)
    end
    more = more or ''
    if pinned and text ~= pin then
        return nil
    end
    return head(text) .. text .. '\0' .. head(more) .. more .. '\0'
end

local function run_all()
    local out = {}
    for i = 1, arg_number() do
        out[i] = run_one()
        if not out[i] then
            return nil
        end
    end
    return join(out)
end

fetch('log', 'stamp', 'last', 'first', 'recorded')
if stamp ~= '' and get('log', 'stamp') ~= stamp then
    return redis.error_reply('HARKEPOCH the log is of another epoch')
end
if not judging and ticket ~= '0' then
    local done = get_number('k:' .. me, 'ticket')
    if done == tonumber(ticket) then
        return get('k:' .. me, 'reply')
    elseif done > tonumber(ticket) then -- a network was late with it; nobody listens any more
        return redis.error_reply('HARKCHANGED others of the process have come before it')
    end
end
local answer = run_all()
if not answer then
    return redis.error_reply('HARKCHANGED another process was quicker')
end
if not judging then
    if gives_up or not wants_room then
        need_no_room()
    end
    if ticket ~= '0' then
        set('k:' .. me, 'ticket', ticket)
        set('k:' .. me, 'reply', answer)
    end
    if n_new > 0 then
        if get('log', 'first') == '0' then
            set('log', 'first', num(log_start + 1))
        end
        set('log', 'last', num(log_last()))
        set('log', 'recorded', rec)
        write_new()
    end
    flush()
    write_tally()
    write_hint()
end
return answer
