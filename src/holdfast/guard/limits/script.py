"""The rules of `window.py` in Lua, for Redis: one script reads all limits of a call, and counts it if all let it pass.
It takes several calls, and decides one after the other.

Of a limit that keeps each call there is a list of the times, the newest first: whole numbers, ten bytes each. Of one
with sub-windows there is a list `total, number, count, number, count, …`, the newest sub-window first. Both end by
themselves when nothing in them counts any more. The time is the server's, the same for the whole script, so that
clients' clocks have no part in it.
"""

from holdfast.guard.limits.window import PARTS

TIME = "local clock = redis.call('TIME')\nlocal now = clock[1] * 1000000 + clock[2]"

HIT = f"""
{TIME}

local function at(key, index) return tonumber(redis.call('LINDEX', key, index)) end

-- Each reads a key, and changes nothing: what counts, when the call passes (0: now, -1: never), the time it is taken to
-- be, when nothing will count, and how many entries have left.

local function log(key, cost, most, window)
  local passes = (cost > most) and -1 or 0
  local newest = at(key, 0)
  if not newest then return 0, passes, now, now, 0 end
  local time, count, left = math.max(now, newest), redis.call('LLEN', key), 0
  local edge = time - window
  if at(key, -1) <= edge then
    local stays = 2
    left = 1
    while stays <= count and at(key, -stays) <= edge do left, stays = stays, stays * 2 end
    stays = math.min(stays, count + 1)
    while stays - left > 1 do
      local middle = math.floor((left + stays) / 2)
      if at(key, -middle) <= edge then left = middle else stays = middle end
    end
  end
  count = count - left
  if passes == 0 and count + cost > most then passes = at(key, most - cost) + window end
  return count, passes, time, math.max(now, newest + window), left
end

local function counters(key, cost, most, width)
  local passes = (cost > most) and -1 or 0
  local head = redis.call('LRANGE', key, 0, 1)
  if not head[1] then return 0, passes, now, now, 0 end
  local total, newest = tonumber(head[1]), tonumber(head[2])
  local time = math.max(now, newest * width)
  local oldest, parts, left = math.floor(time / width) - {PARTS}, (redis.call('LLEN', key) - 1) / 2, 0
  while left < parts and at(key, -2 * left - 2) < oldest do
    total = total - at(key, -2 * left - 1)
    left = left + 1
  end
  local over, next = total + cost - most, left
  while passes ~= -1 and over > 0 do
    over = over - at(key, -2 * next - 1)
    passes = (at(key, -2 * next - 2) + {PARTS} + 1) * width
    next = next + 1
  end
  return total, passes, time, math.max(now, (newest + {PARTS} + 1) * width), left
end

local function decide(keys, given)
  local cost, charge = given[2], given[3] == 1
  local answer, times, gone, all = {{now, 1}}, {{}}, {{}}, true
  for i, key in ipairs(keys) do
    local most, window, width = given[3 * i + 1], given[3 * i + 2], given[3 * i + 3]
    local used, passes, time, whole, left
    if width == 0 then used, passes, time, whole, left = log(key, cost, most, window)
    else used, passes, time, whole, left = counters(key, cost, most, width) end
    times[i], gone[i] = time, left
    if passes ~= 0 then all = false end
    answer[3 * i], answer[3 * i + 1], answer[3 * i + 2] = used, passes > 0 and passes - now or passes, whole - now
  end
  if not all then answer[2] = 0 end
  if not (all and charge) then return answer end

  for i, key in ipairs(keys) do
    local window, width = given[3 * i + 2], given[3 * i + 3]
    local time, left, used, whole = times[i], gone[i], answer[3 * i] + cost
    if width == 0 then
      if left > 0 then redis.call('LTRIM', key, 0, -(left + 1)) end
      if cost == 1 then redis.call('LPUSH', key, time)
      else
        local pushed = {{}}
        for n = 1, math.min(cost, 1000) do pushed[n] = time end
        for n = 1, math.floor(cost / 1000) do redis.call('LPUSH', key, unpack(pushed)) end
        if cost % 1000 > 0 then redis.call('LPUSH', key, unpack(pushed, 1, cost % 1000)) end
      end
      whole = time + window
    else
      if left > 0 then redis.call('LTRIM', key, 0, -(2 * left + 1)) end
      local number, newest = math.floor(time / width), at(key, 1)
      if newest == number then
        redis.call('LSET', key, 2, at(key, 2) + cost)
        redis.call('LSET', key, 0, used)
      else
        redis.call('LPOP', key)
        redis.call('LPUSH', key, cost, number, used)
      end
      whole = (number + {PARTS} + 1) * width
    end
    redis.call('PEXPIRE', key, math.ceil((whole - now) / 1000) + 1)
    answer[3 * i], answer[3 * i + 2] = used, whole - now
  end
  return answer
end

local answers, key = {{}}, 0
for call, text in ipairs(ARGV) do
  local keys, given, n = {{}}, {{}}, 0
  for number in string.gmatch(text, '%d+') do
    n = n + 1
    given[n] = tonumber(number)
  end
  for i = 1, given[1] do keys[i] = KEYS[key + i] end
  answers[call] = decide(keys, given)
  key = key + given[1]
end
return answers
"""
"""KEYS: what is counted under, all of one slot. ARGV: for each call a text of numbers, which costs a client less than
as many arguments: how many of the keys are its, its cost and 1 if it is to be counted; then for each of its keys most,
window and width in µs.

Returns for each call the time in µs and whether all let it pass; then for each of its keys what counts, the wait
(-1: never) and the µs until nothing counts.
"""
