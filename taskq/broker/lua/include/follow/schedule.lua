-- 'o' end of schedule  schedule that sent it, fire time, ms it ran, its state, default level
-- Tells the schedule how its message ended, and sends what it held back.
-- include over
function follow.o(item, first) over(ARGV[4], base, item.task, unpack(ARGV, first, first + 4)) end
