-- digits(n): a number as Redis would write it. Of a number that is an argument of many commands the text
-- is made once: each time takes Redis 0.4 µs.

local digits_of = {}

local function digits(n)
  local text = digits_of[n] or string.format('%.17g', n)
  if n == n then
    digits_of[n] = text
  end
  return text
end
