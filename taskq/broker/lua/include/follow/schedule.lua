-- 'o' end of schedule  state, history and held messages of the schedule that sent it, fire time, ms it ran, its state,
--                      stream prefix, levels, default level
-- Tells the schedule how its message ended, and sends what it held back.
-- include over
function follow.o(item, first) over(ARGV[4], item.task, unpack(ARGV, first, first + 8)) end
