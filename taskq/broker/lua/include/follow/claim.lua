-- 'k' free claim  claim      Gives the message's idempotency key free, unless another message has it.
function follow.k(item, first)
  if redis.call('GET', ARGV[first]) == item.task then redis.call('DEL', ARGV[first]) end
end
