-- 'q' next in lane  ordering key      Lets the key's next message into the queue.
-- include lane
function follow.q(_, first) advance(base, ARGV[first]) end
